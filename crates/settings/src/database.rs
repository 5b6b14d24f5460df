//! Where the data is, and which key encrypts it.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};
use postrider_core::Keyring;

use crate::value::{count_in, duration_in, yes_or_no};
use crate::{SecretText, SettingsError, bounds};

/// The database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// URL of the database: postgres://user:password@host/name or sqlite://path
    #[arg(
        long,
        env = "POSTRIDER_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub database_url: Option<SecretText>,

    /// Maximum number of connections that this process opens to PostgreSQL
    #[arg(
        long, env = "POSTRIDER_DATABASE_CONNECTIONS", value_name = "N", default_value = "16",
        value_parser = count_in::<u32>(bounds::DATABASE_CONNECTIONS)
    )]
    pub database_connections: u32,

    /// Pooler between this process and PostgreSQL: none or transaction
    ///
    /// Set `transaction` for PgBouncer (1.21 or newer) with pool_mode = transaction. Sessions then get their settings from
    /// the role, and workers poll unless POSTRIDER_DATABASE_LISTEN_URL is set. PgBouncer in session mode is `none`.
    #[arg(
        long, env = "POSTRIDER_DATABASE_POOLER", value_name = "MODE", default_value = "none",
        value_parser = ["none", "transaction"]
    )]
    pub database_pooler: String,

    /// URL of the same PostgreSQL database that does not pass the pooler, for notifications of new jobs
    #[arg(
        long,
        env = "POSTRIDER_DATABASE_LISTEN_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub database_listen_url: Option<SecretText>,

    /// Span of time of each partition of the events in PostgreSQL
    ///
    /// Partitions that exist stay as they are.
    #[arg(
        long, env = "POSTRIDER_PARTITION", value_name = "TIME", default_value = "1d",
        value_parser = duration_in(bounds::PARTITION)
    )]
    pub partition: Duration,
}

impl DatabaseArgs {
    /// Returns the URL as the type that connects with it, `postrider_database::DatabaseUrl`.
    ///
    /// # Errors
    /// Fails if the URL is missing, or `U` rejects it.
    pub fn url<U: FromStr<Err: Error + Send + Sync + 'static>>(&self) -> Result<U, SettingsError> {
        const NAME: &str = "POSTRIDER_DATABASE_URL";
        const HINT: &str =
            "set it to postgres://user:password@host/name, or to sqlite://path for a database in a file";
        SecretText::parse(self.database_url.as_ref(), NAME, HINT)
    }

    /// Returns the pooler as the type that names it, `postrider_database::Pooler`.
    ///
    /// # Errors
    /// Fails if `P` rejects it.
    pub fn pooler<P: FromStr<Err: Error + Send + Sync + 'static>>(&self) -> Result<P, SettingsError> {
        let parsed = self.database_pooler.parse();
        parsed.map_err(|error| SettingsError::refused("POSTRIDER_DATABASE_POOLER", error))
    }

    /// Returns the URL for notifications, if there is one.
    ///
    /// # Errors
    /// Fails if `U` rejects it.
    pub fn listen_url<U: FromStr<Err: Error + Send + Sync + 'static>>(
        &self,
    ) -> Result<Option<U>, SettingsError> {
        let Some(text) = self.database_listen_url.as_ref().and_then(SecretText::trimmed) else {
            return Ok(None);
        };
        let parsed =
            text.parse().map_err(|error| SettingsError::refused("POSTRIDER_DATABASE_LISTEN_URL", error));
        parsed.map(Some)
    }
}

/// The key that encrypts subscribers' secrets at rest.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct SecretKeyArgs {
    /// Key that encrypts subscribers' secrets at rest: the base64 of 32 bytes
    ///
    /// Former keys may follow after commas: the first key encrypts, all of them decrypt. Must be the same for every
    /// server and worker. `openssl rand -base64 32` makes one; keep it in the environment or in the settings file.
    #[arg(
        long,
        env = "POSTRIDER_SECRET_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub secret_key: Option<SecretText>,

    /// Start although the key of stored secrets is lost
    ///
    /// Without it, a program exits if it cannot decrypt the newest stored secret. With it, deliveries to subscribers whose
    /// secrets cannot be decrypted wait until these are rotated and their headers set again.
    #[arg(
        long, env = "POSTRIDER_SECRET_KEY_LOST", value_name = "BOOL", default_value = "false",
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set,
        value_parser = yes_or_no()
    )]
    pub secret_key_lost: bool,
}

/// The keys that encrypt subscribers' secrets, and whether a key of stored ones may be missing.
#[derive(Clone, Debug)]
pub struct SecretKeys {
    /// The keys.
    pub keyring: Keyring,
    /// Whether to start although the keyring cannot decrypt what is stored.
    pub lost: bool,
}

impl From<Keyring> for SecretKeys {
    fn from(keyring: Keyring) -> Self {
        Self { keyring, lost: false }
    }
}

impl SecretKeyArgs {
    /// Returns the key and the former ones.
    ///
    /// # Errors
    /// Fails if the key is missing, or one of the keys is not the base64 of 32 bytes.
    pub fn config(&self) -> Result<SecretKeys, SettingsError> {
        const NAME: &str = "POSTRIDER_SECRET_KEY";
        const HINT: &str = "set it to the base64 of 32 random bytes, which encrypts subscribers' secrets at rest; \
            make one with `openssl rand -base64 32`, keep it safe, and give every server and worker the same";
        let text = SecretText::required(self.secret_key.as_ref(), NAME, HINT)?;
        let keyring = Keyring::parse(text).map_err(|error| SettingsError::refused(NAME, error))?;
        Ok(SecretKeys { keyring, lost: self.secret_key_lost })
    }
}
