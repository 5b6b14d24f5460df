//! Logs, traces, metrics, and the address that serves them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use postrider_database::{Connections, Database};
use postrider_queue::TransactionalQueue;
use postrider_settings::{SettingsError, TelemetryArgs};
use postrider_store::Store;
use postrider_telemetry::listener::{self, Readiness};
use postrider_telemetry::{Guard, Program, PrometheusHandle, logging, metric, prometheus};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::descriptors::{self, Bounded};
use crate::start::StartError;

/// How long the database may take to answer a ping before `/readyz` reports the program as unready.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The telemetry of a program, set up as its settings say.
#[derive(Debug)]
pub struct Observed {
    guard: Guard,
    metrics: PrometheusHandle,
    /// How many connections the telemetry address accepts.
    connections: u32,
    serving: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Observed {
    /// Installs logging (of panics too), tracing and the metrics recorder.
    ///
    /// # Errors
    /// Fails if a setting is invalid, or logging or a recorder is installed already.
    pub fn start(args: &TelemetryArgs, program: Program, version: &'static str) -> Result<Self, StartError> {
        let guard = logging::init(&args.config(program)?).map_err(|error| match error {
            logging::Error::Filter { .. } => SettingsError::refused("POSTRIDER_LOG", error).into(),
            error => StartError::from(error),
        })?;
        logging::log_panics();
        let metrics = prometheus::install(program, version)?;
        let connections = u32::try_from(listener::CONNECTIONS).unwrap_or(u32::MAX);
        Ok(Self { guard, metrics, connections, serving: None, stop: CancellationToken::new() })
    }

    /// Returns bounds for which the system allows enough file descriptors, next to the telemetry address and this many
    /// database connections. Raises the process's own limit if that is enough. If not, a warning names the numbers.
    pub fn fit_descriptors<const N: usize>(
        &mut self,
        database_connections: u32,
        bounds: [Bounded; N],
    ) -> [u32; N] {
        let (fitting, telemetry) = descriptors::fit(database_connections, bounds, self.connections);
        self.connections = telemetry;
        fitting
    }

    /// Returns the routes that the API's address has beside the API: `/healthz` and `/readyz`, and `/metrics` if asked for.
    pub fn api_routes(&self, readiness: &Readiness, metrics: bool) -> Router {
        if metrics {
            listener::routes(self.metrics.clone(), readiness.clone())
        } else {
            listener::health_routes(readiness.clone())
        }
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` on the telemetry address. The program is ready while the database
    /// answers and can write. Each scrape of the metrics measures the database's pool.
    ///
    /// # Errors
    /// Fails if it cannot listen on the address.
    pub async fn serve(
        &mut self,
        args: &TelemetryArgs,
        database: &Database,
        readiness: &Readiness,
    ) -> Result<(), StartError> {
        let address = args.listen();
        let listener = TcpListener::bind(address).await.map_err(|source| {
            let name = "POSTRIDER_TELEMETRY_LISTEN";
            SettingsError::Address { name, address, source }
        })?;
        let measured = database.clone();
        self.metrics.before_reading(move || {
            let Connections { idle, in_use, max } = measured.connections();
            metric::database_connections(idle, in_use, max);
        });
        tracing::info!(service = "telemetry", address = %listener.local_addr()?, "listening");
        let router = listener::routes(self.metrics.clone(), readiness.clone());
        let stop = self.stop.clone().cancelled_owned();
        self.serving =
            Some(tokio::spawn(listener::serve_up_to(self.connections as usize, listener, router, stop)));
        Ok(())
    }

    /// Returns the handle that renders the metrics.
    pub fn metrics(&self) -> &PrometheusHandle {
        &self.metrics
    }

    /// Stops serving and exports the remaining spans, for up to `limit` or a few seconds, whichever is less.
    pub async fn shutdown(self, limit: Duration) {
        self.stop.cancel();
        if let Some(serving) = self.serving {
            let _ = serving.await;
        }
        self.guard.shutdown(limit).await;
    }
}

/// Returns a probe that is ready while the database answers and can write.
pub fn readiness(database: &Database) -> Readiness {
    readiness_of(database, None)
}

/// The same, while also the store's queue answers.
pub fn readiness_with_queue(store: &Store) -> Readiness {
    readiness_of(store.database(), Some(Arc::clone(store.queue())))
}

fn readiness_of(database: &Database, queue: Option<Arc<dyn TransactionalQueue>>) -> Readiness {
    let database = database.clone();
    Readiness::new(PING_TIMEOUT, move || {
        let (database, queue) = (database.clone(), queue.clone());
        async move {
            if let Some(remote) = queue.as_ref().and_then(|queue| queue.remote()) {
                remote.identity().await.map_err(|_| "the queue does not answer".to_owned())?;
            }
            // Also notices a server that has become read-only.
            let pinged = if database.trouble().is_none() { database.ping().await } else { Ok(()) };
            match database.trouble() {
                Some(trouble) => Err(format!("the database cannot write: {}", trouble.words)),
                None => pinged.map_err(|_| "the database does not answer".to_owned()),
            }
        }
    })
}
