//! The bounds of a [`Config`](crate::Config).
//!
//! [`Config::validate`](crate::Config::validate) and the settings read these constants. Both ends of a range are allowed
//! values.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The time for resolving the host, connecting and the TLS handshake together.
pub const CONNECT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
/// The time for a whole attempt, the response's body included.
pub const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(5);
/// The time after which an idle connection is closed.
pub const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(5);
/// The number of bytes of a response's body that are recorded.
pub const RESPONSE_LIMIT: RangeInclusive<usize> = 0..=1024 * 1024;
