//! How events are delivered: targets, timeouts, retries.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use postrider_core::bounds::{DELAY, MAX_ATTEMPTS};
use postrider_core::retry::{RetryError, Steps};
use postrider_core::target::TargetPolicy;
use postrider_core::{AddressPolicy, AgentId, RetryPolicy, RetrySchedule};
use postrider_delivery::{Client, Config, ConfigError, ProxyUrl, bounds};

use crate::value::{count_in, duration_in, size_in, yes_or_no};
use crate::{SecretText, SettingsError};

/// The largest random addition to a retry delay, in percent of the delay.
const JITTER_PERCENT: u8 = 10;

/// One attempt, and where it may go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Delivery")]
pub struct DeliveryArgs {
    /// Networks that targets may be in, besides public ones: CIDRs separated by commas
    #[arg(long, env = "POSTRIDER_ALLOW_NETS", value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_nets: Vec<IpNet>,

    /// Judge NAT64 addresses (64:ff9b::/96) by the IPv4 address in them, for networks with DNS64
    #[arg(
        long, env = "POSTRIDER_NAT64", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub nat64: bool,

    /// Reject targets that are not https
    #[arg(
        long, env = "POSTRIDER_HTTPS_ONLY", value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub https_only: bool,

    /// Time limit for resolving, connecting and the TLS handshake together
    #[arg(
        long, env = "POSTRIDER_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = duration_in(bounds::CONNECT_TIMEOUT)
    )]
    pub connect_timeout: Duration,

    /// Time limit for a whole attempt, including the response's body
    #[arg(
        long, env = "POSTRIDER_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = duration_in(bounds::REQUEST_TIMEOUT)
    )]
    pub request_timeout: Duration,

    /// Number of bytes of a response's body to store with its attempt
    #[arg(
        long, env = "POSTRIDER_RESPONSE_LIMIT", value_name = "SIZE", default_value = "5000",
        value_parser = size_in(bounds::RESPONSE_LIMIT)
    )]
    pub response_limit: usize,

    /// Name servers for receivers' host names, instead of those of the system: addresses with or without a port, separated by
    /// commas
    #[arg(
        long, env = "POSTRIDER_DNS_SERVERS", value_name = "IP[:PORT],…", value_delimiter = ',', value_parser = name_server
    )]
    pub dns_servers: Vec<SocketAddr>,

    /// Proxy for all deliveries: http://, socks5:// or socks5h:// with user:password@host:port
    #[arg(
        long,
        env = "POSTRIDER_PROXY",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub proxy: Option<SecretText>,

    /// Files of root certificates (PEM) to trust besides the web's, separated by commas
    #[arg(long, env = "POSTRIDER_EXTRA_ROOTS", value_name = "PATH,…", value_delimiter = ',')]
    pub extra_roots: Vec<PathBuf>,
}

impl DeliveryArgs {
    /// Returns the client that makes the attempts. Reads the files of root certificates.
    ///
    /// # Errors
    /// Fails if the proxy's URL is invalid, or a file cannot be read or contains something else than certificates.
    pub fn client(&self) -> Result<Client, SettingsError> {
        Client::new(self.config()?).map_err(|error| SettingsError::refused(variable(&error), error))
    }

    /// Returns the plain values, with the content of the files of root certificates, which [`Client::new`] parses.
    ///
    /// # Errors
    /// Fails if the proxy's URL is invalid, or a file cannot be read.
    pub fn config(&self) -> Result<Config, SettingsError> {
        let proxy = self.proxy.as_ref().and_then(SecretText::trimmed).map(str::parse::<ProxyUrl>).transpose();
        let mut extra_roots_pem = Vec::new();
        for path in &self.extra_roots {
            let pem = std::fs::read(path).map_err(|source| SettingsError::Unreadable {
                name: "POSTRIDER_EXTRA_ROOTS",
                path: path.clone(),
                source,
            })?;
            extra_roots_pem.push(pem);
        }
        Ok(Config {
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            response_limit: self.response_limit,
            targets: self.targets(),
            dns_servers: self.dns_servers.clone(),
            proxy: proxy.map_err(|error| SettingsError::refused("POSTRIDER_PROXY", error))?,
            extra_roots_pem,
            ..Config::default()
        })
    }

    /// Returns which URLs and addresses deliveries may go to. The server rejects others when a subscriber is created.
    pub fn targets(&self) -> TargetPolicy {
        let addresses = AddressPolicy::public_only().allowing(self.allow_nets.clone());
        let addresses = if self.nat64 { addresses.judging_nat64() } else { addresses };
        TargetPolicy { addresses, https_only: self.https_only }
    }
}

fn name_server(text: &str) -> Result<SocketAddr, &'static str> {
    let text = text.trim();
    let with_port = text.parse().ok();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let server = with_port.or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, 53)));
    server.ok_or("expected an IP address, or an address with a port, such as 10.0.0.2:53 or [fd00::2]:53")
}

/// Returns the variable of the setting that `error` is about.
fn variable(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::ConnectTimeout => "POSTRIDER_CONNECT_TIMEOUT",
        ConfigError::RequestTimeout => "POSTRIDER_REQUEST_TIMEOUT",
        ConfigError::ResponseLimit => "POSTRIDER_RESPONSE_LIMIT",
        _ => "POSTRIDER_EXTRA_ROOTS",
    }
}

/// What follows a failed attempt, for subscribers without a policy of their own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Delivery")]
pub struct RetryArgs {
    /// Number of attempts before a delivery is dead, unless the subscriber's policy sets one
    #[arg(
        long, env = "POSTRIDER_MAX_ATTEMPTS", value_name = "N", default_value = "6",
        value_parser = count_in::<u32>(MAX_ATTEMPTS)
    )]
    pub max_attempts: u32,

    /// Delays after failed attempts, separated by commas; the last one repeats
    ///
    /// Each is lengthened by up to 10 % at random.
    #[arg(
        long, env = "POSTRIDER_RETRY_SCHEDULE", value_name = "DURATION,…", value_delimiter = ',',
        default_value = "1s,5s,30s,2m,10m,30m", value_parser = duration_in(DELAY)
    )]
    pub retry_schedule: Vec<Duration>,
}

impl RetryArgs {
    /// Returns the policy, with up to 10 % of random delay.
    ///
    /// # Errors
    /// Fails if the schedule has more than 30 delays, or one is longer than 24 h.
    pub fn config(&self) -> Result<RetryPolicy, SettingsError> {
        let steps = Steps::try_new(self.retry_schedule.clone());
        let policy = steps.and_then(|steps| {
            RetryPolicy::try_new(RetrySchedule::Steps(steps), self.max_attempts, JITTER_PERCENT)
        });
        policy.map_err(|error| {
            let name = match error {
                RetryError::MaxAttempts => "POSTRIDER_MAX_ATTEMPTS",
                _ => "POSTRIDER_RETRY_SCHEDULE",
            };
            SettingsError::refused(name, error)
        })
    }
}

/// What an event gets if it does not set it itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct DispatchArgs {
    /// Agent of events that do not name one
    #[arg(long, env = "POSTRIDER_AGENT_ID", value_name = "ID", default_value = "default")]
    pub agent_id: AgentId,
}
