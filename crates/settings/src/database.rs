//! Where the data is, and what it is encrypted with.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use clap::Args;
use postrider_core::Keyring;

use crate::{SecretText, SettingsError};

/// The database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// The database: postgres://user:password@host/name or sqlite://path
    #[arg(
        long,
        env = "POSTRIDER_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub database_url: Option<SecretText>,

    /// The most connections that this process holds (PostgreSQL)
    #[arg(
        long, env = "POSTRIDER_DATABASE_CONNECTIONS", value_name = "N", default_value = "16",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub database_connections: u32,
}

/// Where the database is and how many connections it is worth.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `postgres://…` or `sqlite://…`, with its password.
    pub url: SecretText,
    /// The most connections that this process holds.
    pub max_connections: u32,
}

impl DatabaseArgs {
    /// The plain values.
    ///
    /// # Errors
    /// If the URL is missing or of no known kind.
    pub fn config(&self) -> Result<DatabaseConfig, SettingsError> {
        const NAME: &str = "POSTRIDER_DATABASE_URL";
        const HINT: &str =
            "set it to postgres://user:password@host/name, or to sqlite://path for a database in a file";
        let url = self.database_url.as_ref().and_then(SecretText::trimmed);
        let url = url.ok_or(SettingsError::Missing { name: NAME, hint: HINT })?;
        if !["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(SettingsError::invalid(NAME, "a database URL starts with postgres:// or sqlite://"));
        }
        Ok(DatabaseConfig { url: url.into(), max_connections: self.database_connections })
    }
}

/// What encrypts subscribers' secrets at rest.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct SecretKeyArgs {
    /// Encrypts subscribers' secrets at rest: base64 of 32 bytes; former keys follow after commas
    #[arg(
        long,
        env = "POSTRIDER_SECRET_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub secret_key: Option<SecretText>,
}

impl SecretKeyArgs {
    /// The key, and the former ones.
    ///
    /// # Errors
    /// If it is missing or no base64 of 32 bytes.
    pub fn config(&self) -> Result<Keyring, SettingsError> {
        const NAME: &str = "POSTRIDER_SECRET_KEY";
        const HINT: &str = "it is the base64 of 32 random bytes that encrypts subscribers' secrets at rest; \
            make one with `openssl rand -base64 32`, keep it safe, and give the same to every server and worker";
        let text = self.secret_key.as_ref().and_then(SecretText::trimmed);
        let text = text.ok_or(SettingsError::Missing { name: NAME, hint: HINT })?;
        Keyring::parse(text).map_err(|error| SettingsError::refused(NAME, error))
    }
}
