//! The client's configuration and its validation.

use std::net::SocketAddr;
use std::time::Duration;

use postrider_core::ProxyUrl;
use postrider_core::target::TargetPolicy;
use rustls::pki_types::pem;

use crate::bounds;

/// How a [`Client`](crate::Client) makes attempts. `Client::new` rejects values out of [`bounds`].
///
/// ```
/// use postrider_delivery::{Client, Config, ConfigError};
/// use std::time::Duration;
///
/// let config = Config { connect_timeout: Duration::from_secs(5), ..Config::default() };
/// assert!(Client::new(config.clone()).is_ok());
///
/// let invalid = Config { response_limit: usize::MAX, ..config };
/// assert!(matches!(Client::new(invalid), Err(ConfigError::ResponseLimit)));
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// The time limit for resolving the host, connecting and the TLS handshake together, within
    /// [`bounds::CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// The time limit for a whole attempt, the response's body included, within [`bounds::REQUEST_TIMEOUT`]. A
    /// subscriber's own time limit replaces it.
    pub request_timeout: Duration,
    /// The number of bytes of a response's body that are recorded, within [`bounds::RESPONSE_LIMIT`].
    pub response_limit: usize,
    /// The URLs and addresses that deliveries may go to.
    pub targets: TargetPolicy,
    /// The name servers to ask, in their order; none for those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// The proxy that tunnels the connections of requests without one of their own; `None` to connect directly.
    pub proxy: Option<ProxyUrl>,
    /// PEM certificates to trust in addition to the web's roots. Each entry is the content of one file.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// The time after which an idle connection is closed, within [`bounds::IDLE_TIMEOUT`]. It should be shorter than
    /// what receivers allow, and ends earlier if a receiver announces less (`Keep-Alive: timeout`).
    pub idle_timeout: Duration,
}

/// Which value of a [`Config`] is invalid, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::connect_timeout`] is out of bounds.
    #[error(
        "the connect timeout must be from {:?} to {:?}",
        bounds::CONNECT_TIMEOUT.start(),
        bounds::CONNECT_TIMEOUT.end()
    )]
    ConnectTimeout,
    /// [`Config::request_timeout`] is out of bounds.
    #[error(
        "the request timeout must be from {:?} to {:?}",
        bounds::REQUEST_TIMEOUT.start(),
        bounds::REQUEST_TIMEOUT.end()
    )]
    RequestTimeout,
    /// [`Config::idle_timeout`] is out of bounds.
    #[error(
        "the idle timeout must be from {:?} to {:?}",
        bounds::IDLE_TIMEOUT.start(),
        bounds::IDLE_TIMEOUT.end()
    )]
    IdleTimeout,
    /// [`Config::response_limit`] is out of bounds.
    #[error("the response limit must be at most {} bytes", bounds::RESPONSE_LIMIT.end())]
    ResponseLimit,
    /// An entry of [`Config::extra_roots_pem`] contains no certificate.
    #[error("extra root certificates: file {index} contains no PEM certificate (BEGIN CERTIFICATE)")]
    NoRoot {
        /// The position of the entry, counted from 1.
        index: usize,
    },
    /// An entry of [`Config::extra_roots_pem`] is malformed.
    #[error("extra root certificates: file {index} is not valid PEM")]
    RootPem {
        /// The position of the entry, counted from 1.
        index: usize,
        /// The parser's error.
        #[source]
        source: pem::Error,
    },
    /// A certificate of [`Config::extra_roots_pem`] cannot be used as a root.
    #[error("extra root certificates: file {index} contains a certificate that cannot be used as a root")]
    Root {
        /// The position of the entry, counted from 1.
        index: usize,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
    /// rustls rejected its own default protocol versions.
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
}

impl Default for Config {
    /// Connect 10 s, whole attempt 30 s, 5,000 bytes of the body, idle 4 s; public addresses only, no proxy.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_limit: 5000,
            targets: TargetPolicy::default(),
            dns_servers: Vec::new(),
            proxy: None,
            extra_roots_pem: Vec::new(),
            // Node, Apache and uvicorn close connections that are idle for 5 s.
            idle_timeout: Duration::from_secs(4),
        }
    }
}

impl Config {
    /// Checks the durations and the limit. [`Client::new`](crate::Client::new) checks them as well, and the root
    /// certificates.
    ///
    /// # Errors
    /// Returns the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !bounds::CONNECT_TIMEOUT.contains(&self.connect_timeout) {
            return Err(ConfigError::ConnectTimeout);
        }
        if !bounds::REQUEST_TIMEOUT.contains(&self.request_timeout) {
            return Err(ConfigError::RequestTimeout);
        }
        if !bounds::IDLE_TIMEOUT.contains(&self.idle_timeout) {
            return Err(ConfigError::IdleTimeout);
        }
        if !bounds::RESPONSE_LIMIT.contains(&self.response_limit) {
            return Err(ConfigError::ResponseLimit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let config = Config::default();
        assert!(config.validate().is_ok());
        assert_eq!((config.connect_timeout.as_secs(), config.request_timeout.as_secs()), (10, 30));
        assert_eq!(config.response_limit, 5000);
    }

    #[test]
    fn a_value_out_of_bounds_is_rejected_by_name() {
        let default = Config::default;
        let day = Duration::from_hours(24);
        for (config, message) in [
            (
                Config { connect_timeout: Duration::ZERO, ..default() },
                "the connect timeout must be from 1ms to 60s",
            ),
            (Config { request_timeout: day, ..default() }, "the request timeout must be from 1ms to 300s"),
            (Config { idle_timeout: day, ..default() }, "the idle timeout must be from 1ms to 300s"),
            (
                Config { response_limit: usize::MAX, ..default() },
                "the response limit must be at most 1048576 bytes",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
    }
}
