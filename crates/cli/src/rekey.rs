//! `postrider rekey`: seals under the first key what is sealed under an older one.

use postrider_core::IdGenerator;
use postrider_program::StartError;
use postrider_settings::{DatabaseArgs, SecretKeyArgs};
use postrider_store::Store;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let keyring = args.secret_key.config()?;
    let database = postrider_program::open_database(&args.database, false).await?;
    let store =
        Store::new(database.clone(), postrider_queue::open(&database), keyring, IdGenerator::system());
    let rekeyed = store.rekey().await?;
    println!(
        "{} subscribers sealed anew, {} were sealed under the first key already",
        rekeyed.resealed, rekeyed.current
    );
    database.close().await;
    Ok(())
}
