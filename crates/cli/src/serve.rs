//! `postrider serve`: the API and a worker in one process, for production.

use std::path::PathBuf;

use postrider_program::{Given, Purpose, StartError};
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeyArgs, ServerArgs, SettingsError};

use crate::data_folder::DataFolder;
use crate::embedded;
use crate::whole::{Whole, WholeArgs};

const DATABASE_URL: &str = "POSTRIDER_DATABASE_URL";
const DATA: &str = "POSTRIDER_DATA";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for a SQLite database, instead of a database URL; created if it does not exist
    // The name is a constant, because `dev` has another default for it.
    #[arg(long, env = DATA, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Exit if the database lacks migrations, instead of running them
    #[arg(long)]
    no_migrate: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    whole: WholeArgs,
}

/// The settings name two databases.
#[derive(Debug, thiserror::Error)]
#[error("POSTRIDER_DATABASE_URL and POSTRIDER_DATA name two databases; unset one of them")]
struct TwoDatabases;

pub(crate) async fn run(args: Args, given: Given) -> Result<(), StartError> {
    let keys = args.secret_key.config()?;
    let (_folder, database) = database(args.data, args.database)?;
    let migrate = args.whole.server.migrate && !args.no_migrate;
    let whole = Whole::configure(args.whole, given, database.database_connections)?;
    let stop = whole.stop();
    let opening = postrider_program::open_store(&database, &args.queue, keys, Purpose::Api, migrate);
    let (_, store) = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    if !whole.has_admin_key() && !store.has_operator_key().await? {
        return Err(ServerArgs::no_operator_key().into());
    }
    whole.run(store, |_, _| ()).await
}

/// Returns the settings of the database, and the folder that it is in, which no other process uses while it is held.
fn database(
    data: Option<PathBuf>,
    database: DatabaseArgs,
) -> Result<(Option<DataFolder>, DatabaseArgs), StartError> {
    const HINT: &str =
        "set it to postgres://user:password@host/name, or give a folder for SQLite with --data";
    let is_given = database.database_url.as_ref().is_some_and(|url| !url.expose().trim().is_empty());
    match data {
        Some(_) if is_given => Err(TwoDatabases.into()),
        Some(folder) => Ok((Some(DataFolder::open(&folder)?), embedded::database(&folder))),
        None if is_given => Ok((None, database)),
        None => Err(SettingsError::Missing { name: DATABASE_URL, hint: HINT }.into()),
    }
}
