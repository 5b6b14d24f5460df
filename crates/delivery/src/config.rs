//! What can be set, and what is refused.

use std::time::Duration;

use postrider_core::target::TargetPolicy;
use rustls::pki_types::pem;

use crate::proxy::ProxyUrl;

/// How attempts are made. [`Client::new`](crate::Client::new) refuses what makes no sense.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long resolving, connecting and the TLS handshake may take together; at most 60 s.
    pub connect_timeout: Duration,
    /// How long an attempt may take in all, the answer's body included; at most 5 min.
    pub request_timeout: Duration,
    /// How many bytes of an answer's body are kept; at most 1 MiB.
    pub response_limit: usize,
    /// Which URLs and addresses deliveries may go to.
    pub targets: TargetPolicy,
    /// The HTTP proxy that all connections go through.
    pub proxy: Option<ProxyUrl>,
    /// Certificates in PEM, trusted besides the web's roots. Each entry is the content of one file.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// How long a connection that is not in use is kept; at most 5 min.
    pub idle_timeout: Duration,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A duration is zero or too long.
    #[error("{name} must be over zero and at most {}s", most.as_secs())]
    Duration {
        /// The field of [`Config`].
        name: &'static str,
        /// The longest that it may be.
        most: Duration,
    },
    /// The response limit is over 1 MiB.
    #[error("response_limit must be at most {most} bytes")]
    ResponseLimit {
        /// The most that it may be.
        most: usize,
    },
    /// A file of extra root certificates has none in it.
    #[error("extra root certificates: number {index} holds no certificate in PEM (BEGIN CERTIFICATE)")]
    NoRoot {
        /// Which entry of [`Config::extra_roots_pem`], from 1.
        index: usize,
    },
    /// A file of extra root certificates is not PEM.
    #[error("extra root certificates: number {index} is not PEM")]
    RootPem {
        /// Which entry of [`Config::extra_roots_pem`], from 1.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// An extra root certificate is not one.
    #[error("extra root certificates: number {index} holds something that is no root certificate")]
    Root {
        /// Which entry of [`Config::extra_roots_pem`], from 1.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

const MAX_CONNECT_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_mins(5);
const MAX_IDLE_TIMEOUT: Duration = Duration::from_mins(5);
const MAX_RESPONSE_LIMIT: usize = 1024 * 1024;

impl Default for Config {
    /// Connect 10 s, whole attempt 30 s, 5000 bytes, idle 10 s; public addresses only, no proxy.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_limit: 5000,
            targets: TargetPolicy::default(),
            proxy: None,
            extra_roots_pem: Vec::new(),
            idle_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Sees that every value makes sense.
    ///
    /// # Errors
    /// Names the first that does not. Root certificates are judged only by [`Client::new`](crate::Client::new).
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, value, most) in [
            ("connect_timeout", self.connect_timeout, MAX_CONNECT_TIMEOUT),
            ("request_timeout", self.request_timeout, MAX_REQUEST_TIMEOUT),
            ("idle_timeout", self.idle_timeout, MAX_IDLE_TIMEOUT),
        ] {
            if value.is_zero() || value > most {
                return Err(ConfigError::Duration { name, most });
            }
        }
        if self.response_limit > MAX_RESPONSE_LIMIT {
            return Err(ConfigError::ResponseLimit { most: MAX_RESPONSE_LIMIT });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_designs_and_pass() {
        let config = Config::default();
        assert!(config.validate().is_ok());
        assert_eq!((config.connect_timeout.as_secs(), config.request_timeout.as_secs()), (10, 30));
        assert_eq!(config.response_limit, 5000);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let named = |config: Config| config.validate().unwrap_err().to_string();
        let day = Duration::from_hours(24);
        assert!(
            named(Config { connect_timeout: Duration::ZERO, ..Config::default() })
                .starts_with("connect_timeout")
        );
        assert!(named(Config { request_timeout: day, ..Config::default() }).starts_with("request_timeout"));
        assert!(named(Config { idle_timeout: day, ..Config::default() }).starts_with("idle_timeout"));
        assert!(
            named(Config { response_limit: usize::MAX, ..Config::default() }).starts_with("response_limit")
        );
    }
}
