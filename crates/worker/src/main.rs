//! `postrider-worker`: delivers what the queue holds.

use std::process::ExitCode;

use clap::Parser;
use postrider_core::IdGenerator;
use postrider_delivery::Client;
use postrider_program::{Observed, StartError};
use postrider_settings::{DatabaseArgs, DeliveryArgs, RetryArgs, SecretKeyArgs, TelemetryArgs, WorkerArgs};
use postrider_store::Store;
use postrider_telemetry::Program;
use postrider_worker::{Config, Worker};

/// Delivers what the queue holds: claims jobs, sends webhooks, records every attempt
#[derive(Debug, Parser)]
#[command(name = "postrider-worker", version)]
struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

fn main() -> ExitCode {
    // Where to crash: see `point` in the library.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    postrider_program::main(Program::Worker, |args: Args, _transforms| run(args))
}

async fn run(args: Args) -> Result<(), StartError> {
    // All settings are judged before anything is opened.
    let keyring = args.secret_key.config()?;
    let client = Client::new(args.delivery.config()?)?;
    let config = Config::from_settings(&args.worker, &args.retry)?;

    let mut observed = Observed::start(&args.telemetry, Program::Worker, env!("CARGO_PKG_VERSION"))?;
    let database = postrider_program::open_database(&args.database, false).await?;
    let store =
        Store::new(database.clone(), postrider_queue::open(&database), keyring, IdGenerator::system());
    store.check_keyring().await?;
    let worker = Worker::new(store, client, config)?;
    // Before anybody is told that it runs: from then on a signal ends it in good order.
    let stop = postrider_program::stop_signal()?;
    observed.serve(&args.telemetry, &database).await?;

    worker.run(stop).await;

    database.close().await;
    observed.shutdown().await;
    Ok(())
}
