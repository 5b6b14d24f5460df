//! The least and greatest value of each setting that has bounds.
//!
//! One constant per setting, in the order of `docs/settings.md`. The parser of the setting, its `--help` text and the
//! configuration of the library that uses it read the same constant. The bounds of an
//! attempt are in [`postrider_delivery::bounds`], and those that subscribers' policies share in
//! [`postrider_core::bounds`].

use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::bounds::{DELAY, MAX_ATTEMPTS, SCHEDULE_LENGTH};
use postrider_delivery::bounds::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, RESPONSE_LIMIT};

use crate::value::{count_range, duration_range, size_range};

/// `POSTRIDER_DATABASE_CONNECTIONS`: connections of one process.
pub const DATABASE_CONNECTIONS: RangeInclusive<u32> = 1..=1000;

/// `POSTRIDER_PARTITION`: the span of time of a partition. Many short ones cost every statement that reads all of them.
pub const PARTITION: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(30 * 24);

/// `POSTRIDER_CONNECTIONS_PER_ADDRESS`: connections of one client of the API.
pub const CONNECTIONS_PER_ADDRESS: RangeInclusive<u32> = 1..=1_000_000;

/// `POSTRIDER_WRONG_KEYS`: keys that are not valid, from one client of the API.
pub const WRONG_KEYS: RangeInclusive<u32> = 1..=1_000_000;

/// `POSTRIDER_BODY_LIMIT`: bytes of a request body.
pub const BODY_LIMIT: RangeInclusive<usize> = 1024..=64 * 1024 * 1024;

/// `POSTRIDER_REQUEST_MEMORY`: bytes of request bodies that a server holds.
pub const REQUEST_MEMORY: RangeInclusive<usize> = 1024 * 1024..=64 * 1024 * 1024 * 1024;

/// `POSTRIDER_SHED_QUEUE_AGE`, unless it is zero.
pub const SHED_QUEUE_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// `POSTRIDER_SHED_LATENCY`, unless it is zero.
pub const SHED_LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

/// `POSTRIDER_SHUTDOWN_DELAY`.
pub const SHUTDOWN_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);

/// `POSTRIDER_SHUTDOWN_GRACE`.
pub const SHUTDOWN_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

/// `POSTRIDER_CONCURRENCY`: requests in flight in one worker.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;

/// `POSTRIDER_SUBSCRIBER_CONCURRENCY`: requests in flight to one subscriber.
pub const SUBSCRIBER_CONCURRENCY: RangeInclusive<u32> = 1..=100_000;

/// `POSTRIDER_PAYLOAD_MEMORY`: bytes of payloads that a worker holds.
pub const PAYLOAD_MEMORY: RangeInclusive<usize> = 1024 * 1024..=64 * 1024 * 1024 * 1024;

/// `POSTRIDER_LEASE`. A shorter lease could expire between two extensions; a longer one would leave a crashed worker's
/// jobs waiting.
pub const LEASE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);

/// `POSTRIDER_RETAIN_HISTORY`, `POSTRIDER_RETAIN_DEAD` and `POSTRIDER_RETAIN_AUDIT`, unless they are `forever`.
pub const AGE: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(100 * 365 * 24);

/// `POSTRIDER_RETAIN_KEYS`. The table of keys must not grow for good.
pub const KEYS: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(365 * 24);

/// The bounds of the argument `id` as its help shows them, or `None` if it has none.
pub(crate) fn shown(id: &str) -> Option<String> {
    let or_zero = |bounds: &_| format!("{}; 0s disables it", duration_range(bounds));
    Some(match id {
        "database_connections" => count_range(&DATABASE_CONNECTIONS),
        "partition" => duration_range(&PARTITION),
        "body_limit" => size_range(&BODY_LIMIT),
        "request_memory" => size_range(&REQUEST_MEMORY),
        "connections_per_address" => count_range(&CONNECTIONS_PER_ADDRESS),
        "wrong_keys" => count_range(&WRONG_KEYS),
        "shed_queue_age" => or_zero(&SHED_QUEUE_AGE),
        "shed_latency" => or_zero(&SHED_LATENCY),
        "shutdown_delay" => duration_range(&SHUTDOWN_DELAY),
        "shutdown_grace" => duration_range(&SHUTDOWN_GRACE),
        "concurrency" => count_range(&CONCURRENCY),
        "subscriber_concurrency" => count_range(&SUBSCRIBER_CONCURRENCY),
        "payload_memory" => size_range(&PAYLOAD_MEMORY),
        "lease" => duration_range(&LEASE),
        "retain_keys" => duration_range(&KEYS),
        "retain_history" | "retain_dead" | "retain_audit" => duration_range(&AGE),
        "connect_timeout" => duration_range(&CONNECT_TIMEOUT),
        "request_timeout" => duration_range(&REQUEST_TIMEOUT),
        "response_limit" => size_range(&RESPONSE_LIMIT),
        "retry_schedule" => {
            format!("{} delays, each {}", size_range(&SCHEDULE_LENGTH), duration_range(&DELAY))
        }
        "max_attempts" => count_range(&MAX_ATTEMPTS),
        _ => return None,
    })
}
