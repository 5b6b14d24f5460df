//! The API and a worker in one process, as `serve` and `dev` run them.

use std::net::SocketAddr;

use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_program::{Bounded, Given, Observed, StartError, Stop, readiness_with_queue};
use postrider_server::{AdminKeys, Parts, Server, Shedding};
use postrider_settings::{
    DeliveryArgs, DispatchArgs, RetryArgs, SandboxArgs, ServerArgs, SettingsError, ShedArgs, ShedConfig,
    ShutdownArgs, TelemetryArgs, WorkerArgs,
};
use postrider_store::Store;
use postrider_telemetry::Program;
use postrider_worker::Worker;
use tokio_util::sync::CancellationToken;

/// The settings of server and worker, apart from the database and the keys.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WholeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    #[command(flatten)]
    shed: ShedArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
    #[command(flatten)]
    pub(crate) delivery: DeliveryArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// An API and a worker that are configured but do not run yet.
#[derive(Debug)]
pub(crate) struct Whole {
    args: WholeArgs,
    has_admin_key: bool,
    api: postrider_server::Config,
    worker: postrider_worker::Config,
    dispatch: postrider_dispatch::Config,
    client: Client,
    observed: Observed,
    stop: Stop,
}

impl Whole {
    /// Checks all settings, sets up logs and metrics, and listens for signals. Opens nothing yet.
    pub(crate) fn configure(
        args: WholeArgs,
        given: Given,
        database_connections: u32,
    ) -> Result<Self, StartError> {
        let keys: AdminKeys = args.server.admin_keys()?.unwrap_or_default();
        let has_admin_key = !keys.is_empty();
        let client = args.delivery.client()?;
        let worker = postrider_worker::Config::from_settings(&args.worker, &args.retry, args.shutdown)?;
        let mut worker = postrider_worker::Config { sandbox: args.sandbox.is_on(), ..worker };
        let mut api = api_config(&args, keys, args.server.public_url()?);
        api.settings = given.settings;
        let mut dispatch = postrider_dispatch::Config {
            default_agent: args.dispatch.agent_id.clone(),
            ..postrider_dispatch::Config::default()
        };
        if let Some(configured) = given.transforms {
            dispatch.transforms.configure(configured)?;
        }
        let mut observed = Observed::start(&args.telemetry, Program::Whole, env!("CARGO_PKG_VERSION"))?;
        let bounds = [Bounded::connections(api.connections), Bounded::attempts(worker.concurrency)];
        let [connections, attempts] = observed.fit_descriptors(database_connections, bounds);
        api.connections = connections as usize;
        worker.concurrency = attempts.try_into().unwrap_or(worker.concurrency);
        let stop = postrider_program::stop_signal()?;
        Ok(Self { args, has_admin_key, api, worker, dispatch, client, observed, stop })
    }

    /// Returns whether the settings name an operator's key.
    pub(crate) fn has_admin_key(&self) -> bool {
        self.has_admin_key
    }

    /// Returns whether the process has been asked to stop.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves and delivers until the process is asked to stop. Calls `started` with the addresses of the API and of the console once they
    /// listen.
    pub(crate) async fn run(
        self,
        store: Store,
        started: impl FnOnce(SocketAddr, Option<SocketAddr>),
    ) -> Result<(), StartError> {
        let Self { args, api, worker, dispatch, client, mut observed, stop, has_admin_key: _ } = self;
        let (delay, grace) = (api.delay, api.grace);
        let database = store.database().clone();
        // Without the queue there is nothing to deliver.
        let readiness = readiness_with_queue(&store);
        let parts = Parts {
            dispatcher: Dispatcher::new(store.clone(), dispatch)?,
            store: store.clone(),
            targets: client.clone(),
            telemetry: observed.api_routes(&readiness, args.server.api_metrics),
        };
        let api = Server::bind(args.server.listen, api, parts).await;
        let api = api.map_err(|error| SettingsError::refused(error.setting(), error))?;
        let places = api.places();
        readiness.require(move || {
            if places.all_taken() { Err("all places for connections are taken".to_owned()) } else { Ok(()) }
        });
        let worker = Worker::new(store, client, worker)?;
        let trouble = worker.trouble();
        readiness.require(move || trouble.ready());
        observed.serve(&args.telemetry, &database, &readiness).await?;
        tracing::info!(service = "api", address = %api.local_addr(), "listening");
        if let Some(address) = api.console_addr() {
            tracing::info!(service = "console", %address, path = "/console", "listening");
        }
        started(api.local_addr(), api.console_addr());

        // The worker stops after the API, so that it still attempts the events that were accepted last.
        let api_ended = CancellationToken::new();
        let working = tokio::spawn(worker.run(api_ended.clone()));
        let asked = async {
            stop.cancelled().await;
            readiness.stop();
        };
        if !api.serve(asked).await {
            tracing::warn!("grace period ended with requests in flight; they are aborted");
        }
        api_ended.cancel();
        working.await?;

        database.close().await;
        observed.shutdown(stop.left_of(delay + grace)).await;
        tracing::info!("stopped");
        Ok(())
    }
}

fn api_config(args: &WholeArgs, keys: AdminKeys, public_url: Option<String>) -> postrider_server::Config {
    let ShedConfig { queue_age, latency, without_queue } = args.shed.config();
    postrider_server::Config {
        body_limit: args.server.body_limit,
        request_memory: args.server.request_memory,
        connections_per_address: args.server.connections_per_address,
        wrong_keys: args.server.wrong_keys,
        log_requests: args.server.log_requests,
        delay: args.server.shutdown_delay,
        grace: args.shutdown.shutdown_grace,
        shedding: Shedding { queue_age, latency, without_queue },
        audit_payloads: args.server.audit_payloads,
        trusted_proxies: args.server.trusted_proxies.clone(),
        console: args.server.console,
        console_listen: args.server.console_listen,
        public_url,
        sandbox: args.sandbox.is_on(),
        ..postrider_server::Config::new(keys)
    }
}
