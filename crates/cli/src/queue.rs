//! `postrider queue`: the queue outside the database.

use std::time::Duration;

use postrider_database::Database;
use postrider_program::{StartError, WithStatus};
use postrider_settings::DatabaseArgs;
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
}

#[derive(Debug, clap::Args)]
pub(crate) struct Refill {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Return as soon as the workers are asked
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(command: Command) -> Result<(), StartError> {
    let Command::Refill(args) = command;
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
