//! The dispatcher's configuration.

use std::ops::RangeInclusive;

use postrider_core::AgentId;

use crate::transform::Transforms;

/// How a dispatcher works. [`Dispatcher::new`](crate::Dispatcher::new) validates it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent of events that name none.
    pub default_agent: AgentId,
    /// How many batches may be committed at once, within [`Config::FLUSHERS`]. More of them overlap their waits for
    /// the disk; fewer make larger batches.
    pub flushers: usize,
    /// How many events may wait for a batch, within [`Config::WAITING`]. Further calls wait until there is room.
    pub waiting: usize,
    /// What changes an event's data before it is stored.
    pub transforms: Transforms,
}

/// Why a dispatcher's configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::flushers`] is outside of [`Config::FLUSHERS`].
    #[error("flushers: must be between {least} and {most}, got {0}", least = Config::FLUSHERS.start(), most = Config::FLUSHERS.end())]
    Flushers(usize),
    /// [`Config::waiting`] is outside of [`Config::WAITING`].
    #[error("waiting: must be between {least} and {most}, got {0}", least = Config::WAITING.start(), most = Config::WAITING.end())]
    Waiting(usize),
}

impl Config {
    /// The bounds of [`Config::flushers`].
    pub const FLUSHERS: RangeInclusive<usize> = 1..=16;
    /// The bounds of [`Config::waiting`].
    pub const WAITING: RangeInclusive<usize> = 1..=1_000_000;

    /// Checks all values against their bounds.
    ///
    /// # Errors
    /// Fails for the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !Self::FLUSHERS.contains(&self.flushers) {
            return Err(ConfigError::Flushers(self.flushers));
        }
        if !Self::WAITING.contains(&self.waiting) {
            return Err(ConfigError::Waiting(self.waiting));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { default_agent: AgentId::default(), flushers: 2, waiting: 4096, transforms: Transforms::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_rejected_by_name() {
        assert_eq!(Config::default().validate(), Ok(()));
        for flushers in [0, 17] {
            let error = Config { flushers, ..Config::default() }.validate().unwrap_err();
            assert_eq!(error.to_string(), format!("flushers: must be between 1 and 16, got {flushers}"));
        }
        let error = Config { waiting: 0, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error, ConfigError::Waiting(0));
    }
}
