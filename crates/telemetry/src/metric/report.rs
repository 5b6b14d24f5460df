//! Telling the recorder about metrics, and setting those that several programs report.

use std::time::Duration;

use super::{ALL, Kind, PROGRAM, Program, STATE, VERSION};
use crate::metric;

/// Gives the recorder the description of every metric in [`ALL`].
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// Starts the counters and histograms of `program` that have no labels at zero.
///
/// `increase()` and `rate()` need a point before the first increase, or an alert would miss it. Gauges appear once they
/// have a value.
pub fn start_at_zero(program: Program) {
    let ours = |from: Program| program == Program::Whole || from == Program::Whole || from == program;
    for metric in ALL.iter().filter(|metric| metric.labels.is_empty() && ours(metric.from)) {
        match metric.kind {
            Kind::Counter => metrics::counter!(metric.name).absolute(0),
            Kind::Gauge => {}
            Kind::Histogram(_) => drop(metrics::histogram!(metric.name)),
        }
    }
}

/// Sets [`metric::BUILD_INFO`].
pub fn build_info(program: Program, version: &'static str) {
    metrics::gauge!(metric::BUILD_INFO, PROGRAM => program.name(), VERSION => version).set(1.0);
}

/// Sets [`metric::DATABASE_CONNECTIONS`] and [`metric::DATABASE_CONNECTIONS_MAX`].
pub fn database_connections(idle: u32, in_use: u32, max: u32) {
    metrics::gauge!(metric::DATABASE_CONNECTIONS, STATE => "idle").set(idle);
    metrics::gauge!(metric::DATABASE_CONNECTIONS, STATE => "in_use").set(in_use);
    metrics::gauge!(metric::DATABASE_CONNECTIONS_MAX).set(max);
}

/// Sets [`metric::PARTITIONS_AHEAD`], [`metric::PARTITIONS_OLDEST`] and [`metric::PAYLOADS_OLDEST`].
pub fn partitions(ahead: Duration, oldest: Duration, oldest_payloads: Duration) {
    metrics::gauge!(metric::PARTITIONS_AHEAD).set(ahead.as_secs_f64());
    metrics::gauge!(metric::PARTITIONS_OLDEST).set(oldest.as_secs_f64());
    metrics::gauge!(metric::PAYLOADS_OLDEST).set(oldest_payloads.as_secs_f64());
}
