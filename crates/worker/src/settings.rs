//! A worker's configuration from the settings of a program.

use std::num::NonZeroU32;

use postrider_settings::{RetryArgs, SettingsError, WorkerArgs, WorkerConfig};
use postrider_store::health::BreakerPolicy;

use crate::engine::Config;

impl Config {
    /// From the settings of a program.
    ///
    /// # Errors
    /// If one of them makes no sense.
    pub fn from_settings(worker: &WorkerArgs, retry: &RetryArgs) -> Result<Self, SettingsError> {
        let WorkerConfig {
            concurrency,
            subscriber_concurrency,
            lease,
            shutdown_grace,
            breaker_failures,
            deactivate_after,
        } = worker.config()?;
        let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Ok(Self {
            concurrency: count(concurrency),
            subscriber_concurrency: count(subscriber_concurrency),
            lease,
            shutdown_grace,
            retry: retry.config()?,
            breaker: BreakerPolicy { breaker_failures, deactivate_after, ..BreakerPolicy::default() },
            ..Self::default()
        })
    }
}
