//! How to connect, and the bounds of each value.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::{DatabaseUrl, Pooler, RoleSettings};

/// How to connect. [`Database::connect`](crate::Database::connect) validates it.
///
/// ```
/// use postrider_database::{Config, ConfigError};
///
/// let config = Config::new("sqlite://postrider.db".parse()?);
/// assert_eq!(config.validate(), Ok(()));
/// let config = Config { max_connections: 0, ..config };
/// assert_eq!(config.validate(), Err(ConfigError::MaxConnections(0)));
/// # Ok::<(), postrider_database::DatabaseUrlError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub url: DatabaseUrl,
    /// The maximum number of connections, within [`Config::MAX_CONNECTIONS`]. SQLite, which has one writer, always gets
    /// one.
    pub max_connections: u32,
    /// How long to wait for a free or a new connection, within [`Config::TIMEOUTS`].
    pub acquire_timeout: Duration,
    /// How long an operation may take before the database counts as unavailable, within [`Config::TIMEOUTS`]. A
    /// connection can hang for ever if the network drops its packets.
    pub answer_timeout: Duration,
    /// How long a transaction may be idle before PostgreSQL ends it and its connection, within [`Config::TIMEOUTS`]: a
    /// process that is frozen or cut off in the middle of a transaction would keep its locks.
    pub idle_transaction_timeout: Duration,
    /// What is between the program and PostgreSQL.
    pub pooler: Pooler,
    /// What the role must have behind a pooler.
    pub role_settings: RoleSettings,
    /// A direct way to the same PostgreSQL database, for notifications behind a pooler that passes none on.
    pub listen_url: Option<DatabaseUrl>,
    /// The value of PostgreSQL's `pg_stat_activity.application_name`.
    pub application_name: String,
}

/// Why a configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::max_connections`] is outside of [`Config::MAX_CONNECTIONS`].
    #[error("max_connections: must be between {least} and {most}, got {0}", least = Config::MAX_CONNECTIONS.start(), most = Config::MAX_CONNECTIONS.end())]
    MaxConnections(u32),
    /// A timeout is outside of [`Config::TIMEOUTS`].
    #[error("{name}: must be between {least:?} and {most:?}, got {value:?}", least = Config::TIMEOUTS.start(), most = Config::TIMEOUTS.end())]
    Timeout {
        /// The field of [`Config`].
        name: &'static str,
        /// Its value.
        value: Duration,
    },
}

impl Config {
    /// The bounds of [`Config::max_connections`].
    pub const MAX_CONNECTIONS: RangeInclusive<u32> = 1..=1000;
    /// The bounds of the timeouts.
    pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);

    /// The answer timeout of a database for which none is configured.
    pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

    /// A configuration with 16 connections, 5 s to get one, 15 s for an operation, and 10 s for an idle transaction.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: Self::ANSWER_TIMEOUT,
            idle_transaction_timeout: Duration::from_secs(10),
            pooler: Pooler::None,
            role_settings: RoleSettings::Required,
            listen_url: None,
            application_name: "postrider-2".into(),
        }
    }

    /// How long PostgreSQL runs a statement before it cancels it: two thirds of [`Config::answer_timeout`], so that no
    /// statement outlives its caller.
    pub fn statement_timeout(&self) -> Duration {
        self.answer_timeout * 2 / 3
    }

    /// How long a statement waits for a lock before PostgreSQL cancels it: a third of [`Config::answer_timeout`].
    pub fn lock_timeout(&self) -> Duration {
        self.answer_timeout / 3
    }

    /// Checks all values against their bounds.
    ///
    /// # Errors
    /// Fails for the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !Self::MAX_CONNECTIONS.contains(&self.max_connections) {
            return Err(ConfigError::MaxConnections(self.max_connections));
        }
        let timeouts = [
            ("acquire_timeout", self.acquire_timeout),
            ("answer_timeout", self.answer_timeout),
            ("idle_transaction_timeout", self.idle_transaction_timeout),
        ];
        match timeouts.into_iter().find(|(_, value)| !Self::TIMEOUTS.contains(value)) {
            Some((name, value)) => Err(ConfigError::Timeout { name, value }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_rejected_by_name() {
        let valid = Config::new("sqlite://a.db".parse().unwrap());
        assert_eq!(valid.validate(), Ok(()));
        let error = Config { answer_timeout: Duration::ZERO, ..valid }.validate().unwrap_err();
        assert_eq!(error.to_string(), "answer_timeout: must be between 1ms and 3600s, got 0ns");
    }
}
