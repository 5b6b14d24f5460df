//! `postrider rekey`: encrypts stored secrets with the first key.

use postrider_program::{Purpose, StartError};
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeyArgs, SettingsError};
use postrider_store::subscribers::RekeyError;

use crate::say::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let keyring = args.secret_key.config()?;
    let (database, store) =
        postrider_program::open_store(&args.database, &QueueArgs::default(), keyring, Purpose::Api, false)
            .await?;
    let rekeyed = store.rekey().await.map_err(|error| match error {
        RekeyError::Unopened { .. } | RekeyError::UnopenedProxy(_) => {
            SettingsError::refused("POSTRIDER_SECRET_KEY", error).into()
        }
        error => StartError::from(error),
    })?;
    say(format_args!(
        "re-encrypted the secrets of {} subscribers with the first key; {} already used it; and {} egress proxies of tenants",
        rekeyed.resealed, rekeyed.current, rekeyed.proxies
    ));
    database.close().await;
    Ok(())
}
