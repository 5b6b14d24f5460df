//! The configuration of the server.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use postrider_core::ShownSetting;
use postrider_core::key::KeyRate;

use crate::admin_key::AdminKeys;
use crate::pressure::Shedding;

/// Enough for programs that were given an old key, and little for those that guess.
const WRONG_KEYS: KeyRate = match KeyRate::new(1, 20) {
    Ok(rate) => rate,
    Err(_) => unreachable!(),
};

/// How the API is served.
///
/// [`Server::bind`](crate::Server::bind) and [`router`](crate::router()) check the values against their bounds.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// The operator's keys from the environment. There may be none, if keys of operators are stored.
    pub admin_keys: AdminKeys,
    /// The networks of proxies whose `X-Forwarded-For` names the caller.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the audit trail also records who reads payloads.
    pub audit_payloads: bool,
    /// How many wrong keys an address may show. Further ones are answered with 429.
    pub wrong_keys: KeyRate,
    /// The largest request body in bytes, within [`Config::BODY_LIMIT`].
    pub body_limit: usize,
    /// The bytes of request bodies and of events in responses that the server holds at once, within
    /// [`Config::REQUEST_MEMORY`]. Bodies of up to 16 KiB do not count; there is at most one per connection. Further
    /// requests wait before their body is read.
    pub request_memory: usize,
    /// How long the body of a request may take to arrive, and then how long the request may take, including all waiting,
    /// within [`Config::REQUEST_TIMEOUT`]. A body that arrives at less than 16 KiB a second is refused sooner.
    pub request_timeout: Duration,
    /// How many requests run at once, within [`Config::REQUESTS`]. Further requests wait.
    pub requests: usize,
    /// How many connections are open at once, within [`Config::CONNECTIONS`]. Further clients wait to connect.
    pub connections: usize,
    /// How many connections one client may have, by its IPv4 address or the first 64 bits of its IPv6 address, within
    /// [`Config::CONNECTIONS`]. Further ones are closed. By default there is no limit: all clients behind a proxy share an
    /// address.
    pub connections_per_address: Option<usize>,
    /// How long to go on accepting connections and requests after a stop has been asked for, within [`Config::DELAY`].
    /// Every response then closes its connection.
    pub delay: Duration,
    /// How long requests in flight may take to finish after the delay, within [`Config::GRACE`].
    pub grace: Duration,
    /// Whether each request has a line in the log, at the level info. By default it has none.
    pub log_requests: bool,
    /// When the API rejects events with 503. By default it never does.
    pub shedding: Shedding,
    /// The URL at which others reach the API, without a slash at its end; `None` for the address on which it listens.
    pub public_url: Option<String>,
    /// The URL below which others reach the portal of subscribers' owners. By default that is the public URL or, without one, the
    /// address of the console.
    pub portal_url: Option<String>,
    /// Whether to serve the web console under `/console`. By default not. Without the crate's feature `console` there is none.
    pub console: bool,
    /// An address for the console, which is then not on the API's. Only [`Server`](crate::Server) listens there.
    pub console_listen: Option<SocketAddr>,
    /// The program's settings, which the console shows to operators. By default none.
    pub settings: Vec<ShownSetting>,
    /// Whether there are sandboxes, receivers for tests. By default there are none.
    pub sandbox: bool,
}

/// A value of [`Config`] is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::body_limit`] is outside of [`Config::BODY_LIMIT`].
    #[error("body_limit: must be between {least} and {most} bytes, got {0}", least = Config::BODY_LIMIT.start(), most = Config::BODY_LIMIT.end())]
    BodyLimit(usize),
    /// [`Config::request_memory`] is outside of [`Config::REQUEST_MEMORY`].
    #[error("request_memory: must be between {least} and {most} bytes, got {0}", least = Config::REQUEST_MEMORY.start(), most = Config::REQUEST_MEMORY.end())]
    RequestMemory(usize),
    /// [`Config::request_timeout`] is outside of [`Config::REQUEST_TIMEOUT`].
    #[error("request_timeout: must be between {least:?} and {most:?}, got {0:?}", least = Config::REQUEST_TIMEOUT.start(), most = Config::REQUEST_TIMEOUT.end())]
    RequestTimeout(Duration),
    /// [`Config::requests`] is outside of [`Config::REQUESTS`].
    #[error("requests: must be between {least} and {most}, got {0}", least = Config::REQUESTS.start(), most = Config::REQUESTS.end())]
    Requests(usize),
    /// [`Config::connections`] is outside of [`Config::CONNECTIONS`].
    #[error("connections: must be between {least} and {most}, got {0}", least = Config::CONNECTIONS.start(), most = Config::CONNECTIONS.end())]
    Connections(usize),
    /// [`Config::connections_per_address`] is outside of [`Config::CONNECTIONS`].
    #[error("connections_per_address: must be between {least} and {most}, got {0}", least = Config::CONNECTIONS.start(), most = Config::CONNECTIONS.end())]
    ConnectionsPerAddress(usize),
    /// [`Config::delay`] is outside of [`Config::DELAY`].
    #[error("delay: must be at most {most:?}, got {0:?}", most = Config::DELAY.end())]
    Delay(Duration),
    /// [`Config::grace`] is outside of [`Config::GRACE`].
    #[error("grace: must be at most {most:?}, got {0:?}", most = Config::GRACE.end())]
    Grace(Duration),
    /// [`Shedding::queue_age`] is outside of [`Shedding::QUEUE_AGE`].
    #[error("queue_age: must be between {least:?} and {most:?}, got {0:?}", least = Shedding::QUEUE_AGE.start(), most = Shedding::QUEUE_AGE.end())]
    QueueAge(Duration),
    /// [`Shedding::latency`] is outside of [`Shedding::LATENCY`].
    #[error("latency: must be between {least:?} and {most:?}, got {0:?}", least = Shedding::LATENCY.start(), most = Shedding::LATENCY.end())]
    Latency(Duration),
}

impl Config {
    /// The bounds of [`Config::body_limit`]: 1 KiB to 64 MiB.
    pub const BODY_LIMIT: RangeInclusive<usize> = 1024..=64 * 1024 * 1024;
    /// The bounds of [`Config::request_memory`]: 1 MiB to 64 GiB.
    pub const REQUEST_MEMORY: RangeInclusive<usize> = 1024 * 1024..=64 * 1024 * 1024 * 1024;
    /// The bounds of [`Config::request_timeout`].
    pub const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
    /// The bounds of [`Config::requests`].
    pub const REQUESTS: RangeInclusive<usize> = 1..=1_000_000;
    /// The bounds of [`Config::connections`].
    pub const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
    /// The bounds of [`Config::delay`].
    pub const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
    /// The bounds of [`Config::grace`].
    pub const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

    /// The defaults: bodies up to 1 MiB, 64 MiB of them at once, 30 s per request, 512 requests at once on up to 4096
    /// connections, a wrong key per second and address and 20 at once, no proxies, and a stop with 1 s of delay and 30 s of
    /// grace.
    pub fn new(admin_keys: AdminKeys) -> Self {
        Self {
            admin_keys,
            trusted_proxies: Vec::new(),
            audit_payloads: false,
            wrong_keys: WRONG_KEYS,
            body_limit: 1024 * 1024,
            request_memory: 64 * 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            requests: 512,
            connections: 4096,
            connections_per_address: None,
            delay: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            log_requests: false,
            shedding: Shedding::default(),
            public_url: None,
            portal_url: None,
            console: false,
            console_listen: None,
            settings: Vec::new(),
            sandbox: false,
        }
    }

    /// Checks all values against their bounds.
    ///
    /// # Errors
    /// Fails for the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !Self::BODY_LIMIT.contains(&self.body_limit) {
            return Err(ConfigError::BodyLimit(self.body_limit));
        }
        if !Self::REQUEST_MEMORY.contains(&self.request_memory) {
            return Err(ConfigError::RequestMemory(self.request_memory));
        }
        if !Self::REQUEST_TIMEOUT.contains(&self.request_timeout) {
            return Err(ConfigError::RequestTimeout(self.request_timeout));
        }
        if !Self::REQUESTS.contains(&self.requests) {
            return Err(ConfigError::Requests(self.requests));
        }
        if !Self::CONNECTIONS.contains(&self.connections) {
            return Err(ConfigError::Connections(self.connections));
        }
        if let Some(most) = self.connections_per_address.filter(|most| !Self::CONNECTIONS.contains(most)) {
            return Err(ConfigError::ConnectionsPerAddress(most));
        }
        if !Self::DELAY.contains(&self.delay) {
            return Err(ConfigError::Delay(self.delay));
        }
        if !Self::GRACE.contains(&self.grace) {
            return Err(ConfigError::Grace(self.grace));
        }
        let Shedding { queue_age, latency, without_queue: _ } = self.shedding;
        if let Some(age) = queue_age.filter(|age| !Shedding::QUEUE_AGE.contains(age)) {
            return Err(ConfigError::QueueAge(age));
        }
        if let Some(latency) = latency.filter(|latency| !Shedding::LATENCY.contains(latency)) {
            return Err(ConfigError::Latency(latency));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_rejected_by_name() {
        let good = Config::new("k".repeat(32).parse().unwrap());
        assert_eq!(good.validate(), Ok(()));
        let (zero, long) = (Duration::ZERO, Duration::from_hours(2));
        let shedding = |queue_age, latency| Shedding { queue_age, latency, without_queue: false };
        for (config, error) in [
            (Config { body_limit: 0, ..good.clone() }, ConfigError::BodyLimit(0)),
            (Config { request_memory: 0, ..good.clone() }, ConfigError::RequestMemory(0)),
            (Config { request_timeout: zero, ..good.clone() }, ConfigError::RequestTimeout(zero)),
            (Config { requests: 0, ..good.clone() }, ConfigError::Requests(0)),
            (Config { connections: 0, ..good.clone() }, ConfigError::Connections(0)),
            (
                Config { connections_per_address: Some(0), ..good.clone() },
                ConfigError::ConnectionsPerAddress(0),
            ),
            (Config { delay: long, ..good.clone() }, ConfigError::Delay(long)),
            (Config { grace: long, ..good.clone() }, ConfigError::Grace(long)),
            (Config { shedding: shedding(Some(zero), None), ..good.clone() }, ConfigError::QueueAge(zero)),
            (Config { shedding: shedding(None, Some(long)), ..good.clone() }, ConfigError::Latency(long)),
        ] {
            assert_eq!(config.validate(), Err(error));
        }
        let error = ConfigError::Grace(long).to_string();
        assert_eq!(error, "grace: must be at most 3600s, got 7200s");
    }
}
