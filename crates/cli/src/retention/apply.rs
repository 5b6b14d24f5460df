//! `postrider retention apply`: removes now what is older than the retention, with a copy if one is wanted.

use std::path::PathBuf;
use std::time::Duration;

use postrider_core::Timestamp;
use postrider_program::{Purpose, StartError};
use postrider_settings::{DatabaseArgs, QueueArgs, RetentionArgs, SecretKeyArgs, SettingsError};
use postrider_store::Store;
use postrider_store::retention::{Age, Removed, Retention};

use super::archive;
use crate::say::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    retention: RetentionArgs,

    /// Write each day to a file in this folder before it is removed
    ///
    /// `postrider-DAY.jsonl.gz` has one line of JSON for each event, delivery and attempt, in the shapes of the API. A day
    /// that cannot be written is not removed, and no file is overwritten. Workers must leave the removal to this command:
    /// set POSTRIDER_RETAIN_HISTORY=forever for all of them, and give this command --retain-history. On SQLite, days go as
    /// a whole with this option.
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,

    /// Print which days are old enough, and whether they may go; change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The history has no age.
#[derive(Debug, thiserror::Error)]
#[error("history is kept forever, so nothing is removed; give --retain-history with an age, such as 90d")]
struct KeptForever;

/// Some days should have gone and did not.
#[derive(Debug, thiserror::Error)]
#[error("{0} day(s) were left or lost, see above; the next run tries again")]
struct Unfinished(u32);

pub(super) async fn run(args: Args) -> Result<(), StartError> {
    let keyring = args.secret_key.config()?;
    let (database, store) =
        postrider_program::open_store(&args.database, &QueueArgs::default(), keyring, Purpose::Api, false)
            .await?;
    let retention = store.retention(postrider_worker::retention(args.retention)).await?;
    if retention.history == Age::Forever {
        return Err(SettingsError::refused("POSTRIDER_RETAIN_HISTORY", KeptForever).into());
    }
    say(format_args!("history is kept: {}; dead letters: {}", retention.history, retention.dead));
    let left = match args.archive {
        _ if args.dry_run => {
            preview(&store, retention).await?;
            0
        }
        Some(folder) => {
            let left = archive::run(&store, retention, &folder).await?;
            store.remove_expired_keys(retention).await?;
            left
        }
        None => {
            remove(&store, retention).await?;
            0
        }
    };
    database.close().await;
    if left > 0 { Err(Unfinished(left).into()) } else { Ok(()) }
}

/// Prints what would go.
async fn preview(store: &Store, retention: Retention) -> Result<(), StartError> {
    let mut from = Timestamp::from_millis(0);
    while let Some(day) = store.next_old_day(retention, from).await? {
        from = day.ends_at;
        match store.why_day_stays(&day).await? {
            Some(stays) => say(format_args!("{}: would stay: {}", day.name, stays.as_str())),
            None => say(format_args!("{}: would be removed", day.name)),
        }
    }
    Ok(())
}

/// For how long locks and the database are left to others between two calls, and for how many calls nothing may be removed
/// because others hold locks.
const PAUSE: Duration = Duration::from_millis(500);
const CALLS_IN_VAIN: u32 = 60;

/// Removes what a worker would remove.
async fn remove(store: &Store, retention: Retention) -> Result<(), StartError> {
    let mut in_vain = 0;
    let stay = loop {
        let Removed { partitions, stay, events, more } = store.remove_expired(retention).await?;
        in_vain = if partitions.is_empty() && events == 0 { in_vain + 1 } else { 0 };
        for partition in partitions {
            say(format_args!("{partition}: removed"));
        }
        if events > 0 {
            say(format_args!("deleted {events} events"));
        }
        if !more {
            break stay;
        }
        if in_vain == CALLS_IN_VAIN {
            say(format_args!("others use the tables, such as a dump; the rest stays until the next run"));
            return Err(Unfinished(1).into());
        }
        tokio::time::sleep(PAUSE).await;
    };
    for (partition, stays) in stay {
        say(format_args!("{partition}: stays: {}", stays.as_str()));
    }
    Ok(())
}
