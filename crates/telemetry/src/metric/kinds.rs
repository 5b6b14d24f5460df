//! Kinds of metrics, their buckets, and the programs that report them.

use metrics::Unit;

/// Bucket bounds for times in seconds, from 1 ms (a receiver nearby) to 60 s (longer than the default timeouts).
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bucket bounds for retry delays in seconds: the default schedule with its jitter, and an hour for `Retry-After`.
pub const RETRY_DELAYS: &[f64] = &[1.1, 5.5, 33.0, 132.0, 660.0, 1980.0, 3600.0];
/// Bucket bounds for the sizes of batches.
pub const BATCH_SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution over buckets with these upper bounds, in ascending order.
    Histogram(&'static [f64]),
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `postrider-server`.
    Server,
    /// `postrider-worker`.
    Worker,
    /// `postrider`: server and worker in one process.
    Whole,
}

impl Program {
    /// Returns the binary's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "postrider-server",
            Self::Worker => "postrider-worker",
            Self::Whole => "postrider",
        }
    }
}

/// A metric and its description.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name on `/metrics`.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The program that reports it; [`Program::Whole`] if both server and worker do.
    pub from: Program,
    /// One sentence for `/metrics` that says what it measures.
    pub help: &'static str,
}
