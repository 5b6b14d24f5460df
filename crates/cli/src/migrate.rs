//! `postrider migrate`: migrates a database to the current schema.

use postrider_program::StartError;
use postrider_settings::DatabaseArgs;

use crate::say::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    postrider_program::migrate_database(&args.database).await?;
    say(format_args!("the database has the current schema"));
    Ok(())
}
