//! Logs, traces, metrics and the address at which they are read.

use std::time::Duration;

use postrider_database::{Connections, Database};
use postrider_settings::TelemetryArgs;
use postrider_telemetry::listener::{self, Readiness};
use postrider_telemetry::{Guard, Program, PrometheusHandle, logging, metric, prometheus};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::start::StartError;

/// How long the database may take to answer before the program calls itself unready.
const DEADLINE: Duration = Duration::from_secs(2);

/// A program whose logs, traces and metrics go where the settings say.
#[derive(Debug)]
pub struct Observed {
    guard: Guard,
    metrics: PrometheusHandle,
    serving: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Observed {
    /// Installs logging, tracing and the metrics recorder.
    ///
    /// # Errors
    /// If a setting is wrong, or something of the kind is installed already.
    pub fn start(args: &TelemetryArgs, program: Program, version: &'static str) -> Result<Self, StartError> {
        let guard = logging::init(&args.config(program)?).map_err(|error| match error {
            logging::Error::Filter { .. } => StartError::from(format!("POSTRIDER_LOG: {error}")),
            error => error.into(),
        })?;
        let metrics = prometheus::install(program, version)?;
        Ok(Self { guard, metrics, serving: None, stop: CancellationToken::new() })
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` on the telemetry address. Ready is who has a
    /// database that answers. The database's pool is measured whenever metrics are read.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn serve(&mut self, args: &TelemetryArgs, database: &Database) -> Result<(), StartError> {
        let address = args.listen();
        let bound = TcpListener::bind(address).await;
        let listener = bound
            .map_err(|error| format!("cannot listen on {address} (POSTRIDER_TELEMETRY_LISTEN): {error}"))?;
        let measured = database.clone();
        self.metrics.before_reading(move || {
            let Connections { idle, in_use, max } = measured.connections();
            metric::database_connections(idle, in_use, max);
        });
        tracing::info!(service = "telemetry", address = %listener.local_addr()?, "listening");
        let router = listener::routes(self.metrics.clone(), readiness(database));
        let stop = self.stop.clone().cancelled_owned();
        self.serving = Some(tokio::spawn(async move {
            if let Err(error) = listener::serve(listener, router, stop).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the telemetry address is no longer served"
                );
            }
        }));
        Ok(())
    }

    /// What renders the metrics.
    pub fn metrics(&self) -> &PrometheusHandle {
        &self.metrics
    }

    /// Stops serving, and sends what traces there are; within some seconds.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Some(serving) = self.serving {
            let _ = serving.await;
        }
        self.guard.shutdown().await;
    }
}

/// Ready is who has a database that answers.
pub fn readiness(database: &Database) -> Readiness {
    let database = database.clone();
    Readiness::new(DEADLINE, move || {
        let database = database.clone();
        async move { database.ping().await.map_err(|_| "the database does not answer".to_owned()) }
    })
}
