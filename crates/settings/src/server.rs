//! The API's address, key and limits.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::error::Error;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use postrider_core::TargetUrl;
use postrider_core::key::KeyRate;

use crate::value::{count_in, duration_in, size_in, yes_or_no};
use crate::{SecretText, SettingsError, bounds};

/// The server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct ServerArgs {
    /// Address of the API, in plain HTTP
    #[arg(long, env = "POSTRIDER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Operator's API key: 32 characters or more of visible ASCII; two, separated by a comma, while one replaces the other
    ///
    /// It may do everything, for every tenant. `openssl rand -hex 32` makes one; keep it in the environment or in the
    /// settings file. It may be absent once an operator has a key that was made with `POST /v1/keys`.
    #[arg(
        long,
        env = "POSTRIDER_ADMIN_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_key: Option<SecretText>,

    /// Networks of proxies whose X-Forwarded-For names the caller: CIDRs separated by commas
    ///
    /// The caller's address counts for the limits of keys and for wrong keys. Name only proxies that append to this header
    /// the address that they see; anyone else in these networks can pretend to be any address.
    #[arg(long, env = "POSTRIDER_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,

    /// Record in the audit trail who reads the data of events and the responses to deliveries
    ///
    /// Each such read then writes a row.
    #[arg(
        long, env = "POSTRIDER_AUDIT_PAYLOADS", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub audit_payloads: bool,

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

    /// Wrong keys that one client may send at once; one more is allowed each second
    ///
    /// Requests with further ones are answered with 429. Valid keys are never limited by this. A client is an IPv4 address,
    /// or the first 64 bits of an IPv6 address.
    #[arg(
        long, env = "POSTRIDER_WRONG_KEYS", value_name = "N", default_value = "20",
        value_parser = wrong_keys
    )]
    pub wrong_keys: KeyRate,

    /// Log a line for each request, at the level info
    ///
    /// It has the method, route, status, duration, key, tenant and request id.
    #[arg(
        long, env = "POSTRIDER_LOG_REQUESTS", value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub log_requests: bool,

    /// Serve the web console under /console
    ///
    /// People sign in there with an API key, which becomes a session with the key's scopes.
    #[arg(
        long, env = "POSTRIDER_CONSOLE", value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub console: bool,

    /// Address of the console, in plain HTTP; absent to serve it on the API's address
    ///
    /// With an address of its own it is not on the API's.
    #[arg(long, env = "POSTRIDER_CONSOLE_LISTEN", value_name = "ADDRESS")]
    pub console_listen: Option<SocketAddr>,

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

    /// URL at which others reach the API, such as `https://hooks.example.com`; absent for the address on which it listens
    ///
    /// The URLs of sandboxes begin with it.
    #[arg(long, env = "POSTRIDER_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// Migrate the database to the current schema before starting
    // `postrider serve` has a different default: see `entry`.
    #[arg(
        long, env = "POSTRIDER_MIGRATE", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub migrate: bool,
}

impl ServerArgs {
    /// Returns the operator's keys as the type that checks them, `postrider_server::AdminKeys`. `None` if there are none.
    ///
    /// # Errors
    /// Fails if `K` rejects them.
    pub fn admin_keys<K: FromStr<Err: Error + Send + Sync + 'static>>(
        &self,
    ) -> Result<Option<K>, SettingsError> {
        let text = self.admin_key.as_ref().and_then(SecretText::trimmed);
        let keys = text.map(str::parse).transpose();
        keys.map_err(|error| SettingsError::refused(ADMIN_KEY, error))
    }

    /// Returns the URL at which others reach the API, without a slash at its end; `None` if it is not set.
    ///
    /// # Errors
    /// Fails if the text is no HTTP URL, or has a query.
    pub fn public_url(&self) -> Result<Option<String>, SettingsError> {
        let Some(text) = self.public_url.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let url = TargetUrl::parse(text).map_err(|error| SettingsError::refused(PUBLIC_URL, error))?;
        if url.redacted() != url.as_str() {
            return Err(SettingsError::refused(PUBLIC_URL, HasQuery));
        }
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Returns the error of a server that nobody could use: it has no key, and no operator has one.
    pub fn no_operator_key() -> SettingsError {
        const HINT: &str = "set it to the operator's API key, 32 characters or more; \
            make one with `openssl rand -hex 32`. It may be absent once an operator has a key made with POST /v1/keys";
        SettingsError::Missing { name: ADMIN_KEY, hint: HINT }
    }
}

/// Parses how many wrong keys a client may send at once.
fn wrong_keys(text: &str) -> Result<KeyRate, String> {
    let burst = count_in(bounds::WRONG_KEYS)(text)?;
    KeyRate::new(1, burst).map_err(|error| error.to_string())
}

/// The URL has a query.
#[derive(Debug, thiserror::Error)]
#[error("a base URL must not have a query")]
struct HasQuery;

const PUBLIC_URL: &str = "POSTRIDER_PUBLIC_URL";
const ADMIN_KEY: &str = "POSTRIDER_ADMIN_KEY";
