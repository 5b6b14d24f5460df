//! `postrider-server`: the HTTP API.

use std::process::ExitCode;

use clap::Parser;
use postrider_dispatch::Dispatcher;
use postrider_program::{Bounded, Given, Observed, Purpose, StartError, readiness, readiness_with_queue};
use postrider_server::{AdminKeys, Config, Parts, Server, Shedding};
use postrider_settings::{
    DatabaseArgs, DeliveryArgs, DispatchArgs, QueueArgs, SandboxArgs, SecretKeyArgs, ServerArgs,
    SettingsError, ShedArgs, ShedConfig, ShutdownArgs, TelemetryArgs,
};
use postrider_telemetry::Program;

/// Serve the HTTP API: accept events, manage subscribers, report on deliveries
#[derive(Debug, Parser)]
#[command(name = "postrider-server", version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    shed: ShedArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// A setting and the value of the library that it sets have the same bounds.
#[test]
fn settings_have_the_bounds_of_the_library() {
    use postrider_settings::bounds;

    assert_eq!(bounds::BODY_LIMIT, Config::BODY_LIMIT);
    assert_eq!(bounds::REQUEST_MEMORY, Config::REQUEST_MEMORY);
    assert_eq!(bounds::SHUTDOWN_DELAY, Config::DELAY);
    assert_eq!(bounds::SHUTDOWN_GRACE, Config::GRACE);
    assert_eq!(bounds::SHED_QUEUE_AGE, Shedding::QUEUE_AGE);
    assert_eq!(bounds::SHED_LATENCY, Shedding::LATENCY);
}

fn main() -> ExitCode {
    postrider_program::main(Program::Server, run)
}

async fn run(args: Args, given: Given) -> Result<(), StartError> {
    // All settings are checked before anything is opened.
    let admin_keys: AdminKeys = args.server.admin_keys()?.unwrap_or_default();
    let has_key = !admin_keys.is_empty();
    let keyring = args.secret_key.config()?;
    let mut dispatch = postrider_dispatch::Config {
        default_agent: args.dispatch.agent_id,
        ..postrider_dispatch::Config::default()
    };
    if let Some(configured) = given.transforms {
        dispatch.transforms.configure(configured)?;
    }
    let targets = args.delivery.client()?;
    let ShedConfig { queue_age, latency, without_queue } = args.shed.config();
    let public_url = args.server.public_url()?;
    let (delay, grace) = (args.server.shutdown_delay, args.shutdown.shutdown_grace);
    let mut config = Config {
        body_limit: args.server.body_limit,
        request_memory: args.server.request_memory,
        connections_per_address: args.server.connections_per_address,
        wrong_keys: args.server.wrong_keys,
        log_requests: args.server.log_requests,
        delay,
        grace,
        shedding: Shedding { queue_age, latency, without_queue },
        audit_payloads: args.server.audit_payloads,
        trusted_proxies: args.server.trusted_proxies.clone(),
        console: args.server.console,
        console_listen: args.server.console_listen,
        settings: given.settings,
        public_url,
        sandbox: args.sandbox.is_on(),
        ..Config::new(admin_keys)
    };

    let mut observed = Observed::start(&args.telemetry, Program::Server, env!("CARGO_PKG_VERSION"))?;
    let connections = Bounded::connections(config.connections);
    let [connections] = observed.fit_descriptors(args.database.database_connections, [connections]);
    config.connections = connections as usize;
    let (database, store) = postrider_program::open_store(
        &args.database,
        &args.queue,
        keyring,
        Purpose::Api,
        args.server.migrate,
    )
    .await?;
    if !has_key && !store.has_operator_key().await? {
        return Err(ServerArgs::no_operator_key().into());
    }
    let stop = postrider_program::stop_signal()?;
    postrider_program::watch_clock(&store, &stop.token());
    postrider_program::keep_partitions(&store, &stop.token());
    let readiness = if without_queue { readiness_with_queue(&store) } else { readiness(&database) };
    let parts = Parts {
        dispatcher: Dispatcher::new(store.clone(), dispatch)?,
        store,
        targets,
        telemetry: observed.api_routes(&readiness, args.server.api_metrics),
    };
    let api = Server::bind(args.server.listen, config, parts).await;
    let api = api.map_err(|error| SettingsError::refused(error.setting(), error))?;
    let places = api.places();
    readiness.require(move || {
        if places.all_taken() { Err("all places for connections are taken".to_owned()) } else { Ok(()) }
    });
    observed.serve(&args.telemetry, &database, &readiness).await?;
    tracing::info!(service = "api", address = %api.local_addr(), "listening");
    if let Some(address) = api.console_addr() {
        tracing::info!(service = "console", %address, path = "/console", "listening");
    }

    let stopping = async {
        stop.cancelled().await;
        readiness.stop();
    };
    if !api.serve(stopping).await {
        tracing::warn!("grace period ended with requests in flight; they are aborted");
    }

    database.close().await;
    observed.shutdown(stop.left_of(delay + grace)).await;
    tracing::info!("stopped");
    Ok(())
}
