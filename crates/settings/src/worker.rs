//! How much a worker takes on.

use std::time::Duration;

use clap::Args;

use crate::SettingsError;
use crate::value::duration;

/// Leases shorter than this run out between two extensions; longer than the longest leave a crashed
/// worker's jobs lying.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);
const MAX_GRACE: Duration = Duration::from_hours(1);

/// The worker.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// The most requests in flight in this worker
    #[arg(
        long, env = "POSTRIDER_CONCURRENCY", value_name = "N", default_value = "512",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub concurrency: u32,

    /// The most requests in flight to one subscriber
    #[arg(
        long, env = "POSTRIDER_SUBSCRIBER_CONCURRENCY", value_name = "N", default_value = "32",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub subscriber_concurrency: u32,

    /// How long a claimed job stays with a worker that is not heard of any more
    // Three request time-outs: it outlives any attempt even when extensions fail for a while.
    #[arg(long, env = "POSTRIDER_LEASE", value_name = "DURATION", default_value = "90s", value_parser = duration)]
    pub lease: Duration,

    /// How long requests in flight may take to end at shutdown; the rest goes back unspent
    // One request time-out: every attempt that has begun can end, so a planned stop repeats nothing.
    #[arg(long, env = "POSTRIDER_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub shutdown_grace: Duration,

    /// Failures in a row that open a subscriber's circuit breaker; 0 is never
    #[arg(long, env = "POSTRIDER_BREAKER_FAILURES", value_name = "N", default_value = "10")]
    pub breaker_failures: u32,

    /// How long a subscriber may fail without a single success before it is deactivated; 0s is never
    #[arg(
        long, env = "POSTRIDER_DEACTIVATE_AFTER", value_name = "DURATION", default_value = "5d",
        value_parser = duration
    )]
    pub deactivate_after: Duration,
}

/// How much a worker takes on, and how it lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The most requests in flight; at least 1.
    pub concurrency: u32,
    /// The most requests in flight to one subscriber; at least 1.
    pub subscriber_concurrency: u32,
    /// How long a claim lasts unless extended; 5 s to 1 h.
    pub lease: Duration,
    /// How long requests in flight may take to end at shutdown; at most 1 h.
    pub shutdown_grace: Duration,
    /// Failures in a row that open a subscriber's circuit breaker; 0 is never.
    pub breaker_failures: u32,
    /// How long a subscriber may fail before it is deactivated; none is never.
    pub deactivate_after: Option<Duration>,
}

impl WorkerArgs {
    /// The plain values.
    ///
    /// # Errors
    /// If the lease is outside of 5 s to 1 h, or the grace over 1 h.
    pub fn config(&self) -> Result<WorkerConfig, SettingsError> {
        if !LEASE.contains(&self.lease) {
            return Err(SettingsError::invalid("POSTRIDER_LEASE", "a lease is 5s to 1h"));
        }
        if self.shutdown_grace > MAX_GRACE {
            return Err(SettingsError::invalid("POSTRIDER_SHUTDOWN_GRACE", "the grace period is at most 1h"));
        }
        Ok(WorkerConfig {
            concurrency: self.concurrency,
            subscriber_concurrency: self.subscriber_concurrency,
            lease: self.lease,
            shutdown_grace: self.shutdown_grace,
            breaker_failures: self.breaker_failures,
            deactivate_after: Some(self.deactivate_after).filter(|limit| !limit.is_zero()),
        })
    }
}
