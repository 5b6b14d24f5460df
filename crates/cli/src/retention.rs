//! `postrider retention`: what the retention removes, when, and removing it now.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

mod apply;
mod archive;
mod folder;
mod lines;

use postrider_api::Moment;
use postrider_database::Dialect;
use postrider_program::{Purpose, StartError};
use postrider_settings::{DatabaseArgs, QueueArgs, RetentionArgs, SecretKeyArgs};
use postrider_store::retention::{Expiring, Payloads, Retention};

use crate::say::say;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print which partitions will be dropped, when, and how many bytes they have; changes nothing
    Plan(Args),
    /// Remove now the events that are older than the history; with --archive, write them to files first
    ///
    /// May be ended at any time and run again. Exits with 1 if something that should go is still there.
    Apply(apply::Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    retention: RetentionArgs,
}

pub(crate) async fn run(command: Command) -> Result<(), StartError> {
    match command {
        Command::Plan(args) => plan(args).await,
        Command::Apply(args) => apply::run(args).await,
    }
}

async fn plan(args: Args) -> Result<(), StartError> {
    let keyring = args.secret_key.config()?;
    let (database, store) =
        postrider_program::open_store(&args.database, &QueueArgs::default(), keyring, Purpose::Api, false)
            .await?;
    let retention = store.retention(postrider_worker::retention(args.retention)).await?;
    let Retention { history, payloads, dead } = retention;
    say(format_args!("history is kept: {history}; payloads: {payloads}; dead letters: {dead}"));
    if database.dialect() == Dialect::Sqlite {
        say(format_args!("SQLite has no partitions: workers delete old events in small batches"));
    } else {
        let partitions = store.expiring(retention).await?;
        say(format_args!(
            "{:<20} {:<25} {:<25} {:>14} {:<25} {:>14}",
            "partition", "until", "payloads removed after", "bytes of them", "dropped after", "bytes"
        ));
        let (mut bytes, mut payload_bytes) = (0, 0);
        for expiring in partitions {
            let goes_at = expiring.goes_at.map_or_else(|| "never".to_owned(), |at| Moment(at).to_string());
            let payloads = match expiring.payloads {
                Payloads::WithIt => "with the partition".to_owned(),
                Payloads::GoAt(at) => Moment(at).to_string(),
                Payloads::Gone => "removed".to_owned(),
            };
            let Expiring { suffix, ends_at, payload_bytes: of_payloads, bytes: own, .. } = expiring;
            let until = Moment(ends_at).to_string();
            say(format_args!(
                "{suffix:<20} {until:<25} {payloads:<25} {of_payloads:>14} {goes_at:<25} {own:>14}"
            ));
            bytes += own;
            payload_bytes += of_payloads;
        }
        say(format_args!(
            "{:<20} {:<25} {:<25} {payload_bytes:>14} {:<25} {bytes:>14}",
            "in all", "", "", ""
        ));
        say(format_args!(
            "a partition stays while a delivery in it is pending, or a dead letter is to be kept"
        ));
        say(format_args!(
            "payloads stay in a partition with a pending delivery, and those of dead letters; their bytes are an estimate"
        ));
    }
    database.close().await;
    Ok(())
}
