//! The API's address, key and limits.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::error::Error;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::value::{count_in, duration_in, size_in, yes_or_no};
use crate::{SecretText, SettingsError, bounds};

/// The server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address of the API, in plain HTTP
    #[arg(long, env = "POSTRIDER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Operator's API key: 32 characters or more of visible ASCII
    ///
    /// It may act for every tenant. `openssl rand -hex 32` makes one; keep it in the environment or in the settings
    /// file.
    #[arg(
        long,
        env = "POSTRIDER_ADMIN_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_key: Option<SecretText>,

    /// Largest request body; the API answers larger ones with 413
    #[arg(
        long, env = "POSTRIDER_BODY_LIMIT", value_name = "SIZE", default_value = "1MiB",
        value_parser = size_in(bounds::BODY_LIMIT)
    )]
    pub body_limit: usize,

    /// Bytes of request bodies and of events in responses that the server holds at once
    ///
    /// Those of up to 16 KiB do not count. A request that does not fit waits before its body is read, while smaller ones
    /// pass it; after 10 s the API answers 503 with `Retry-After`.
    #[arg(
        long, env = "POSTRIDER_REQUEST_MEMORY", value_name = "SIZE", default_value = "64MiB",
        value_parser = size_in(bounds::REQUEST_MEMORY)
    )]
    pub request_memory: usize,

    /// Most connections of one client; absent for no limit
    ///
    /// A client is an IPv4 address, or the first 64 bits of an IPv6 address. Behind a proxy all clients have the proxy's
    /// address: limit them there.
    #[arg(
        long, env = "POSTRIDER_CONNECTIONS_PER_ADDRESS", value_name = "N",
        value_parser = count_in::<usize>(bounds::CONNECTIONS_PER_ADDRESS)
    )]
    pub connections_per_address: Option<usize>,

    /// Also serve /metrics on the API's address, where it needs no key
    #[arg(
        long, env = "POSTRIDER_API_METRICS", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub api_metrics: bool,

    /// Time to go on serving after SIGTERM or Ctrl-C, while `/readyz` already says that the server is not ready
    ///
    /// Load balancers and clients leave the server in this time; each response closes its connection. The grace period
    /// begins after it. In Kubernetes choose what an endpoint takes to be removed, such as 5s.
    #[arg(
        long, env = "POSTRIDER_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "1s",
        value_parser = duration_in(bounds::SHUTDOWN_DELAY)
    )]
    pub shutdown_delay: Duration,

    /// Migrate the database to the current schema before starting
    #[arg(
        long, env = "POSTRIDER_MIGRATE", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub migrate: bool,
}

impl ServerArgs {
    /// Returns the operator's key as the type that checks it, `postrider_server::AdminKey`.
    ///
    /// # Errors
    /// Fails if the key is missing, or `K` rejects it.
    pub fn admin_key<K: FromStr<Err: Error + Send + Sync + 'static>>(&self) -> Result<K, SettingsError> {
        const NAME: &str = "POSTRIDER_ADMIN_KEY";
        const HINT: &str = "set it to the operator's API key, 32 characters or more; \
            make one with `openssl rand -hex 32`";
        SecretText::parse(self.admin_key.as_ref(), NAME, HINT)
    }
}
