//! The minute, by which things are counted.

use postrider_core::Timestamp;

/// Minutes since the Unix epoch.
pub(crate) const fn minute(at: Timestamp) -> i64 {
    at.millis().div_euclid(60_000)
}
