//! When the server rejects events.

use std::time::Duration;

use clap::Args;

use crate::bounds;
use crate::value::duration_or_zero;

/// Backpressure: when the server answers events with 503 and `Retry-After`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ShedArgs {
    /// Reject events with 503 while a job has waited for a worker for longer than this
    ///
    /// Jobs that their subscriber holds back, by its limits, its circuit breaker or its order, do not count. The server
    /// accepts events again after three consecutive checks, one per second, have found no such job.
    #[arg(
        long, env = "POSTRIDER_SHED_QUEUE_AGE", value_name = "DURATION", default_value = "0s",
        value_parser = duration_or_zero(bounds::SHED_QUEUE_AGE)
    )]
    pub shed_queue_age: Duration,

    /// Reject events with 503 while database latency exceeds this
    ///
    /// Measured as the larger of a ping per second (including the wait for a connection) and the mean dispatch time
    /// since the previous ping. A database that does not answer counts as slow. The server accepts events again after
    /// three consecutive pings within the limit.
    #[arg(
        long, env = "POSTRIDER_SHED_LATENCY", value_name = "DURATION", default_value = "0s",
        value_parser = duration_or_zero(bounds::SHED_LATENCY)
    )]
    pub shed_latency: Duration,

    /// What to do with events while a queue outside the database is unavailable: accept or refuse
    ///
    /// `accept` stores them, and workers get their jobs once the queue is back. `refuse` answers 503 with `Retry-After`.
    #[arg(
        long, env = "POSTRIDER_QUEUE_DOWN", value_name = "WHAT", default_value = "accept",
        value_parser = ["accept", "refuse"]
    )]
    pub queue_down: String,
}

/// When the server rejects events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedConfig {
    /// The longest that a job may have waited for a worker, within [`SHED_QUEUE_AGE`](bounds::SHED_QUEUE_AGE); `None` disables it.
    pub queue_age: Option<Duration>,
    /// The largest database latency, within [`SHED_LATENCY`](bounds::SHED_LATENCY); `None` disables it.
    pub latency: Option<Duration>,
    /// Events are refused while a queue outside the database is unavailable.
    pub without_queue: bool,
}

impl ShedArgs {
    /// Returns the plain values.
    pub fn config(&self) -> ShedConfig {
        let unless_zero = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
        ShedConfig {
            queue_age: unless_zero(self.shed_queue_age),
            latency: unless_zero(self.shed_latency),
            without_queue: self.queue_down == "refuse",
        }
    }
}
