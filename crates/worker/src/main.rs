//! `postrider-worker`: delivers the jobs in the queue.

use std::process::ExitCode;

use clap::Parser;
use postrider_program::{Bounded, Observed, Purpose, StartError, readiness_with_queue};
use postrider_settings::{
    DatabaseArgs, DeliveryArgs, QueueArgs, RetryArgs, SandboxArgs, SecretKeyArgs, ShutdownArgs,
    TelemetryArgs, WorkerArgs,
};
use postrider_telemetry::Program;
use postrider_worker::{Config, Worker};

/// Deliver events: claim jobs from the queue, send webhooks, record every attempt
#[derive(Debug, Parser)]
#[command(name = "postrider-worker", version)]
struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
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
    postrider_program::main(Program::Worker, |args: Args, _given| run(args))
}

async fn run(args: Args) -> Result<(), StartError> {
    // All settings are checked before anything is opened.
    let keyring = args.secret_key.config()?;
    let client = args.delivery.client()?;
    let grace = args.shutdown.shutdown_grace;
    let config = Config::from_settings(&args.worker, &args.retry, args.shutdown)?;
    let mut config = Config { sandbox: args.sandbox.is_on(), ..config };

    let mut observed = Observed::start(&args.telemetry, Program::Worker, env!("CARGO_PKG_VERSION"))?;
    let attempts = Bounded::attempts(config.concurrency);
    let [attempts] = observed.fit_descriptors(args.database.database_connections, [attempts]);
    config.concurrency = attempts.try_into().unwrap_or(config.concurrency);
    let (database, store) =
        postrider_program::open_store(&args.database, &args.queue, keyring, Purpose::Delivery, false).await?;
    // Without the queue there is nothing to deliver.
    let readiness = readiness_with_queue(&store);
    let worker = Worker::new(store, client, config)?;
    // Before readiness is served: whatever sees this worker as ready may send it a signal.
    let stop = postrider_program::stop_signal()?;
    let trouble = worker.trouble();
    readiness.require(move || trouble.ready());
    observed.serve(&args.telemetry, &database, &readiness).await?;

    let stopping = async {
        stop.cancelled().await;
        readiness.stop();
    };
    tokio::join!(worker.run(stop.token()), stopping);

    database.close().await;
    observed.shutdown(stop.left_of(grace)).await;
    Ok(())
}
