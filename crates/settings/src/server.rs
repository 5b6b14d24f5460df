//! The API's address, key and limits.

use std::net::SocketAddr;

use clap::{ArgAction, Args};

use crate::value::{size, yes_or_no};
use crate::{SecretText, SettingsError};

/// The fewest characters of the operator's key (the contract's).
const ADMIN_KEY_CHARACTERS: usize = 32;
const MAX_BODY_LIMIT: usize = 64 * 1024 * 1024;

/// The server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// The address of the API
    #[arg(long, env = "POSTRIDER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The operator's key, at least 32 characters; better set in the environment than here
    #[arg(
        long,
        env = "POSTRIDER_ADMIN_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_key: Option<SecretText>,

    /// The largest request body
    #[arg(long, env = "POSTRIDER_BODY_LIMIT", value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub body_limit: usize,

    /// Bring the database to the current schema first
    #[arg(
        long, env = "POSTRIDER_MIGRATE", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub migrate: bool,
}

/// The API's address, key and limits.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address of the API.
    pub listen: SocketAddr,
    /// The operator's key: at least 32 visible ASCII characters.
    pub admin_key: SecretText,
    /// The largest request body, in bytes; 1 KiB to 64 MiB.
    pub body_limit: usize,
    /// Whether to bring the database to the current schema first.
    pub migrate: bool,
}

impl ServerArgs {
    /// The plain values.
    ///
    /// # Errors
    /// If the key is missing or weak, or the body limit makes no sense.
    pub fn config(&self) -> Result<ServerConfig, SettingsError> {
        if !(1024..=MAX_BODY_LIMIT).contains(&self.body_limit) {
            return Err(SettingsError::invalid("POSTRIDER_BODY_LIMIT", "the body limit is 1KiB to 64MiB"));
        }
        Ok(ServerConfig {
            listen: self.listen,
            admin_key: self.admin_key()?,
            body_limit: self.body_limit,
            migrate: self.migrate,
        })
    }

    fn admin_key(&self) -> Result<SecretText, SettingsError> {
        const NAME: &str = "POSTRIDER_ADMIN_KEY";
        const HINT: &str = "it is the operator's key of the API, at least 32 characters; \
            make one with `openssl rand -hex 32`";
        let key = self.admin_key.as_ref().and_then(SecretText::trimmed);
        let key = key.ok_or(SettingsError::Missing { name: NAME, hint: HINT })?;
        if key.len() < ADMIN_KEY_CHARACTERS {
            return Err(SettingsError::invalid(
                NAME,
                "the operator's key has at least 32 characters; make one with `openssl rand -hex 32`",
            ));
        }
        // It is sent in an Authorization header.
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::invalid(
                NAME,
                "the operator's key is of ASCII letters, digits and signs only",
            ));
        }
        Ok(key.into())
    }
}
