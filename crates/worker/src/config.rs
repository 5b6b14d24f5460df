//! The worker's configuration.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::RetryPolicy;
use postrider_store::health::BreakerPolicy;
use postrider_store::retention::RetentionSettings;

use crate::mail::Mailer;

/// How a worker works. [`Worker::new`](crate::Worker::new) validates it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Requests in flight in this worker, within [`Config::CONCURRENCY`].
    pub concurrency: NonZeroU32,
    /// Requests in flight to one subscriber, counted over all workers, if its policy sets no limit. Within
    /// [`Config::CONCURRENCY`].
    pub subscriber_concurrency: NonZeroU32,
    /// The bytes of payloads that this worker holds, within [`Config::PAYLOAD_MEMORY`]. Deliveries of one event share its
    /// payload. Payloads of up to 16 KiB do not count, and one that is larger than this is held alone.
    pub payload_memory: usize,
    /// How long a claim lasts unless it is extended, within [`Config::LEASE`].
    pub lease: Duration,
    /// How long requests in flight may take to end at shutdown, within [`Config::SHUTDOWN_GRACE`]. The worker gives
    /// the others back without spending an attempt.
    pub shutdown_grace: Duration,
    /// How often to look for jobs without a hint that there are any, within [`Config::POLL`].
    pub poll: Duration,
    /// When a failed delivery is retried, if its subscriber's policy does not say.
    pub retry: RetryPolicy,
    /// How often a job is rescued from workers that lost it. After that its delivery is dead.
    pub max_rescues: u32,
    /// For how long events, deliveries and attempts are kept.
    pub retention: RetentionSettings,
    /// How long the idempotency keys of events are kept.
    pub retain_keys: Duration,
    /// How long the audit trail is kept; `None` for good.
    pub retain_audit: Option<Duration>,
    /// When circuit breakers open, and failing subscribers are deactivated.
    pub breaker: BreakerPolicy,
    /// Whether this worker runs sandboxes, receivers for tests. Otherwise it sends to their URLs as to any other.
    pub sandbox: bool,
    /// Sends mail to the owners of subscribers; `None` to send none.
    pub mailer: Option<Mailer>,
}

/// Why a worker's configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::concurrency`] is outside of [`Config::CONCURRENCY`].
    #[error("concurrency: must be between {least} and {most}, got {0}", least = Config::CONCURRENCY.start(), most = Config::CONCURRENCY.end())]
    Concurrency(u32),
    /// [`Config::subscriber_concurrency`] is outside of [`Config::CONCURRENCY`].
    #[error("subscriber_concurrency: must be between {least} and {most}, got {0}", least = Config::CONCURRENCY.start(), most = Config::CONCURRENCY.end())]
    SubscriberConcurrency(u32),
    /// [`Config::payload_memory`] is outside of [`Config::PAYLOAD_MEMORY`].
    #[error("payload_memory: must be between {least} and {most} bytes, got {0}", least = Config::PAYLOAD_MEMORY.start(), most = Config::PAYLOAD_MEMORY.end())]
    PayloadMemory(usize),
    /// [`Config::lease`] is outside of [`Config::LEASE`].
    #[error("lease: must be between {least:?} and {most:?}, got {0:?}", least = Config::LEASE.start(), most = Config::LEASE.end())]
    Lease(Duration),
    /// [`Config::shutdown_grace`] is outside of [`Config::SHUTDOWN_GRACE`].
    #[error("shutdown_grace: must be at most {most:?}, got {0:?}", most = Config::SHUTDOWN_GRACE.end())]
    ShutdownGrace(Duration),
    /// [`Config::poll`] is outside of [`Config::POLL`].
    #[error("poll: must be between {least:?} and {most:?}, got {0:?}", least = Config::POLL.start(), most = Config::POLL.end())]
    Poll(Duration),
    /// The configuration of the dispatcher for operators' events is invalid.
    #[error("the worker's dispatcher cannot be configured")]
    Dispatcher(#[from] postrider_dispatch::ConfigError),
}

impl Config {
    /// The bounds of [`Config::concurrency`] and [`Config::subscriber_concurrency`].
    pub const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
    /// The bounds of [`Config::payload_memory`]: 1 MiB to 64 GiB.
    pub const PAYLOAD_MEMORY: RangeInclusive<usize> = 1024 * 1024..=64 * 1024 * 1024 * 1024;
    /// The bounds of [`Config::lease`]. A shorter lease could expire between two extensions; a longer one would leave a
    /// crashed worker's jobs waiting.
    pub const LEASE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);
    /// The bounds of [`Config::shutdown_grace`].
    pub const SHUTDOWN_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
    /// The bounds of [`Config::poll`].
    pub const POLL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

    /// Checks all values against their bounds.
    ///
    /// # Errors
    /// Fails for the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (concurrency, subscriber) = (self.concurrency.get(), self.subscriber_concurrency.get());
        if !Self::CONCURRENCY.contains(&concurrency) {
            return Err(ConfigError::Concurrency(concurrency));
        }
        if !Self::CONCURRENCY.contains(&subscriber) {
            return Err(ConfigError::SubscriberConcurrency(subscriber));
        }
        if !Self::PAYLOAD_MEMORY.contains(&self.payload_memory) {
            return Err(ConfigError::PayloadMemory(self.payload_memory));
        }
        if !Self::LEASE.contains(&self.lease) {
            return Err(ConfigError::Lease(self.lease));
        }
        if !Self::SHUTDOWN_GRACE.contains(&self.shutdown_grace) {
            return Err(ConfigError::ShutdownGrace(self.shutdown_grace));
        }
        if !Self::POLL.contains(&self.poll) {
            return Err(ConfigError::Poll(self.poll));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: NonZeroU32::MIN.saturating_add(511),
            subscriber_concurrency: NonZeroU32::MIN.saturating_add(31),
            payload_memory: 256 * 1024 * 1024,
            lease: Duration::from_secs(90),
            shutdown_grace: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            max_rescues: 5,
            retention: RetentionSettings::default(),
            retain_keys: Duration::from_hours(24),
            retain_audit: Some(Duration::from_hours(365 * 24)),
            breaker: BreakerPolicy::default(),
            sandbox: false,
            mailer: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_rejected_by_name() {
        assert_eq!(Config::default().validate(), Ok(()));
        let second = Duration::from_secs(1);
        let error = Config { lease: 4 * second, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "lease: must be between 5s and 3600s, got 4s");
        let error = Config { poll: Duration::ZERO, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error, ConfigError::Poll(Duration::ZERO));
        let error = Config { shutdown_grace: 3601 * second, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "shutdown_grace: must be at most 3600s, got 3601s");
        let concurrency = NonZeroU32::MIN.saturating_add(100_000);
        let error = Config { concurrency, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error, ConfigError::Concurrency(100_001));
        let error = Config { payload_memory: 1024, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error, ConfigError::PayloadMemory(1024));
    }
}
