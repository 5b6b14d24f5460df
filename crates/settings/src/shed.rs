//! When the server turns events away.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use crate::SettingsError;
use crate::value::duration;

const QUEUE_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

/// Backpressure: when events are answered with 503 and `Retry-After`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ShedArgs {
    /// Turn events away (503) while a job has waited for a worker for longer than this; 0s is never
    ///
    /// What a subscriber holds back itself, by its limits, its breaker or its order, does not count.
    /// Events are taken again once three looks in a row, one a second, found nothing of the kind.
    #[arg(
        long, env = "POSTRIDER_SHED_QUEUE_AGE", value_name = "DURATION", default_value = "0s",
        value_parser = duration
    )]
    pub shed_queue_age: Duration,

    /// Turn events away (503) while the database takes longer than this; 0s is never
    ///
    /// The time of a ping each second, with the wait for a connection, and the mean time of writing down
    /// single events since the last one. A database that does not answer counts as slow. Events are taken
    /// again once three looks in a row found nothing of the kind.
    #[arg(
        long, env = "POSTRIDER_SHED_LATENCY", value_name = "DURATION", default_value = "0s",
        value_parser = duration
    )]
    pub shed_latency: Duration,
}

/// When events are turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedConfig {
    /// When a job has waited for a worker for longer than this: 1 s to 24 h; none is never.
    pub queue_age: Option<Duration>,
    /// When the database takes longer than this: 1 ms to 1 min; none is never.
    pub latency: Option<Duration>,
}

impl ShedArgs {
    /// The plain values.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn config(&self) -> Result<ShedConfig, SettingsError> {
        let queue_age = Some(self.shed_queue_age).filter(|age| !age.is_zero());
        let latency = Some(self.shed_latency).filter(|time| !time.is_zero());
        if queue_age.is_some_and(|age| !QUEUE_AGE.contains(&age)) {
            return Err(SettingsError::invalid(
                "POSTRIDER_SHED_QUEUE_AGE",
                "the age is 1s to 24h, or 0s for never",
            ));
        }
        if latency.is_some_and(|time| !LATENCY.contains(&time)) {
            return Err(SettingsError::invalid(
                "POSTRIDER_SHED_LATENCY",
                "the time is 1ms to 1m, or 0s for never",
            ));
        }
        Ok(ShedConfig { queue_age, latency })
    }
}
