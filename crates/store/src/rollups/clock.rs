//! Minutes, in which roll-ups measure time.

use postrider_core::Timestamp;

/// Spans of time in minutes. Days are those of UTC.
pub(crate) const MINUTE: i64 = 1;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Milliseconds in a minute.
pub(crate) const MINUTE_MILLIS: i64 = 60_000;

/// The number of the minute that contains this moment, counted from the Unix epoch.
pub(crate) const fn minute(at: Timestamp) -> i64 {
    at.millis().div_euclid(MINUTE_MILLIS)
}

/// The first minute of the row of this width that contains `minute`.
pub(crate) const fn start_of_row(minute: i64, width: i64) -> i64 {
    minute - minute.rem_euclid(width)
}

/// The minute at which a row of this width begins, `minute` or the first one after it.
pub(crate) const fn next_row(minute: i64, width: i64) -> i64 {
    start_of_row(minute + width - 1, width)
}
