//! A worker's configuration from the settings of a program.

use postrider_settings::{RetryArgs, SettingsError, ShutdownArgs, WorkerArgs};
use postrider_store::health::BreakerPolicy;

use crate::engine::Config;

impl Config {
    /// Returns the configuration that the settings describe.
    ///
    /// # Errors
    /// Fails if the retry schedule is invalid.
    pub fn from_settings(
        worker: &WorkerArgs,
        retry: &RetryArgs,
        shutdown: ShutdownArgs,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            concurrency: worker.concurrency,
            subscriber_concurrency: worker.subscriber_concurrency,
            lease: worker.lease,
            shutdown_grace: shutdown.shutdown_grace,
            retry: retry.config()?,
            breaker: BreakerPolicy {
                breaker_failures: worker.breaker_failures,
                deactivate_after: worker.deactivate_after(),
                ..BreakerPolicy::default()
            },
            ..Self::default()
        })
    }
}
