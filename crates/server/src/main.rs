//! `postrider-server`: the HTTP API.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postrider_core::IdGenerator;
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_program::{Observed, StartError, Transforms, readiness};
use postrider_server::{Config, Parts, Server, Shedding};
use postrider_settings::{
    DatabaseArgs, DeliveryArgs, DispatchArgs, SecretKeyArgs, ServerArgs, ShedArgs, TelemetryArgs,
};
use postrider_store::Store;
use postrider_telemetry::{Program, listener};

/// Serves the API: takes events in, and tells what became of them
#[derive(Debug, Parser)]
#[command(name = "postrider-server", version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// How long requests in flight may take to finish at shutdown
    #[arg(
        long, env = "POSTRIDER_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "30s",
        help_heading = "Server", value_parser = humantime::parse_duration
    )]
    shutdown_grace: Duration,

    #[command(flatten)]
    shed: ShedArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

fn main() -> ExitCode {
    postrider_program::main(Program::Server, run)
}

async fn run(args: Args, transforms: Transforms) -> Result<(), StartError> {
    // All settings are judged before anything is opened.
    let server = args.server.config()?;
    let keyring = args.secret_key.config()?;
    let mut dispatch = postrider_dispatch::Config {
        default_agent: args.dispatch.config()?,
        ..postrider_dispatch::Config::default()
    };
    if let Some(configured) = transforms {
        dispatch.transforms.configure(configured)?;
    }
    let targets = Client::new(args.delivery.config()?)?;
    let shed = args.shed.config()?;
    let config = Config {
        body_limit: server.body_limit,
        grace: args.shutdown_grace,
        shedding: Shedding { queue_age: shed.queue_age, latency: shed.latency },
        ..Config::new(server.admin_key.expose().parse()?)
    };
    // What else there is has been judged with its setting, or is a default.
    config.validate().map_err(|error| format!("POSTRIDER_SHUTDOWN_GRACE: {error}"))?;

    let mut observed = Observed::start(&args.telemetry, Program::Server, env!("CARGO_PKG_VERSION"))?;
    let database = postrider_program::open_database(&args.database, server.migrate).await?;
    let store =
        Store::new(database.clone(), postrider_queue::open(&database), keyring, IdGenerator::system());
    store.check_keyring().await?;
    let parts = Parts {
        dispatcher: Dispatcher::new(store.clone(), dispatch)?,
        store,
        targets,
        telemetry: listener::routes(observed.metrics().clone(), readiness(&database)),
    };
    let stop = postrider_program::stop_signal()?;
    let api = Server::bind(server.listen, config, parts).await;
    let api = api.map_err(|error| format!("{error} (POSTRIDER_LISTEN)"))?;
    observed.serve(&args.telemetry, &database).await?;
    tracing::info!(service = "api", address = %api.local_addr(), "listening");

    if !api.serve(stop.cancelled()).await {
        tracing::warn!("the grace period has ended; requests that were still in flight are cut off");
    }

    database.close().await;
    observed.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}
