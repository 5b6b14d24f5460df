//! The bounds of a delivery policy.
//!
//! Validation, the settings and the API's schema all read these constants, so that what they accept and what they
//! describe cannot differ. Both ends of a range are allowed values.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Attempts in one round of delivering.
pub const MAX_ATTEMPTS: RangeInclusive<u32> = 1..=30;
/// Delays in a retry schedule that lists them.
pub const SCHEDULE_LENGTH: RangeInclusive<usize> = 1..=30;
/// One delay of a retry schedule.
pub const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// The first delay of an exponential retry schedule. Its longest delay, the cap, is between the base and the end of
/// [`DELAY`].
pub const EXPONENTIAL_BASE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);
/// The factor between successive delays of an exponential retry schedule.
pub const EXPONENTIAL_FACTOR: RangeInclusive<f64> = 1.0..=10.0;
/// The random part of a delay, in percent of the delay.
pub const JITTER_PERCENT: RangeInclusive<u8> = 0..=50;
/// The duration of one attempt, from resolving the host to the end of the response.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);
/// Requests in flight to one subscriber, counted over the whole deployment.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=10_000;
/// Requests per second to one subscriber; the least is one per hour.
pub const REQUESTS_PER_SECOND: RangeInclusive<f64> = 1.0 / 3600.0..=10_000.0;
/// Requests that may start at once after an idle period.
pub const BURST: RangeInclusive<u32> = 1..=10_000;
/// The size in bytes above which the body of a request is compressed, if the subscriber asks for it.
pub const COMPRESSED_ABOVE: usize = 1024;
