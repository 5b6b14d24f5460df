//! `postrider queue`: the queue outside the database.

use std::time::Duration;

use postrider_database::Database;
use postrider_program::{Purpose, StartError, WithStatus};
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeyArgs, SecretText};
use postrider_store::Store;
use postrider_store::refill::{self, State};
use tokio::time::{Instant, sleep};

use crate::say::say;

/// How often to look how far the refill is.
const LOOK: Duration = Duration::from_millis(500);

/// How long a worker may take to begin. It looks each second.
const BEGIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fill the queue again from the database
    ///
    /// Workers do so by themselves when Redis was restarted or has lost its data. This command makes them do so although they
    /// see no reason to, and waits until the queue is filled. Jobs that the queue has already stay as they are.
    Refill(Refill),
    /// Move all jobs to another queue, from whichever queue has them
    ///
    /// Stop all workers first; servers may run. Then move, and restart servers and workers with the new POSTRIDER_QUEUE_URL. Move
    /// again with --again when the last server has been restarted, for the events that it has taken in since. Nothing is lost
    /// if you stop in between, and every step may be repeated.
    Move(Move),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Refill {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Return as soon as the workers are asked
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    /// URL of the queue to move to, as in POSTRIDER_QUEUE_URL, or "database"
    #[arg(long, value_name = "URL")]
    to: SecretText,
    /// All workers that run use this queue already
    #[arg(long)]
    again: bool,
}

pub(crate) async fn run(command: Command) -> Result<(), StartError> {
    let args = match command {
        Command::Refill(args) => args,
        Command::Move(args) => return move_to(args).await,
    };
    let database = postrider_program::open_database(&args.database, false).await?;
    let filled = fill(&database, args.no_wait).await;
    database.close().await;
    filled
}

async fn fill(database: &Database, no_wait: bool) -> Result<(), StartError> {
    if !refill::ask(database).await? {
        let text = "no worker has used a queue outside this database yet, so there is none to fill; see POSTRIDER_QUEUE_URL";
        return Err(WithStatus::new(1, text).into());
    }
    if no_wait {
        say(format_args!("asked the workers to fill the queue"));
        return Ok(());
    }
    let began = Instant::now();
    loop {
        sleep(LOOK).await;
        match refill::state(database).await? {
            State::Filled(progress) => {
                say(format_args!(
                    "the queue is filled: {} jobs are pending, of which it lacked {}",
                    progress.offered, progress.missing
                ));
                return Ok(());
            }
            State::Asked if began.elapsed() > BEGIN => {
                let text = "no worker has begun to fill the queue; is one running with POSTRIDER_QUEUE_URL?";
                return Err(WithStatus::new(1, text).into());
            }
            State::Asked | State::Filling(_) => {}
        }
    }
}

async fn move_to(args: Move) -> Result<(), StartError> {
    let queue_url = (args.to.expose().trim() != "database").then_some(args.to);
    let queue = QueueArgs { queue_url };
    let opened =
        postrider_program::open_store(&args.database, &queue, args.secret_key.config()?, Purpose::Api, false);
    let (database, store) = opened.await?;
    let moved = move_jobs(&store, args.again).await;
    drop(store);
    database.close().await;
    moved
}

async fn move_jobs(store: &Store, again: bool) -> Result<(), StartError> {
    let running = store.running_workers().await?;
    if running > 0 && !again {
        let text = format!(
            "{running} workers are running: stop them first, so that no delivery is attempted by two; \
             if all of them use the new queue already, add --again"
        );
        return Err(WithStatus::new(1, text).into());
    }
    let mut progress = refill::Move::default();
    while !store.move_jobs(&mut progress).await? {}
    say(format_args!(
        "{} jobs are pending, of which the queue lacked {}",
        progress.offered, progress.missing
    ));
    Ok(())
}
