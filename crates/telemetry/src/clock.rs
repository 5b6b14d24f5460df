//! How far this process' clock is from the database's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::metric;

/// From this difference on, a clock is off.
pub const OFF: Duration = Duration::from_secs(5);

/// From this difference on, receivers refuse what is signed with the clock: the tolerance of Standard Webhooks 1.0.0.
pub const REFUSED: Duration = Duration::from_mins(5);

/// A clock that was off is right again below this share of the limit, so that one at the limit is not logged again and
/// again.
const RIGHT_AGAIN: (u32, u32) = (4, 5);

/// Whether a clock can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClockState {
    /// It agrees with the database's.
    #[default]
    Right,
    /// It differs by [`OFF`] or more: times that Postrider shows are wrong.
    Off,
    /// It differs by [`REFUSED`] or more: receivers that verify `webhook-timestamp` refuse every request.
    Refused,
}

/// Keeps the gauge [`CLOCK_SKEW`](metric::CLOCK_SKEW), and logs when the clock of this process begins to be off, gets
/// worse and is right again.
#[derive(Debug, Default)]
pub struct ClockMonitor(Mutex<ClockState>);

impl ClockMonitor {
    /// Takes note of a measurement: the clock of this process minus the database's in milliseconds, and how wrong that
    /// may be. Returns the state of the clock.
    pub fn observe(&self, skew_millis: i64, uncertainty: Duration) -> ClockState {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 ms.
        let skew_seconds = skew_millis as f64 / 1000.0;
        metrics::gauge!(metric::CLOCK_SKEW).set(skew_seconds);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *state;
        *state = before.after(Duration::from_millis(skew_millis.unsigned_abs()), uncertainty);
        if before != *state {
            match *state {
                ClockState::Refused => tracing::error!(
                    skew_seconds,
                    "this machine's clock differs from the database's by more than receivers tolerate; \
                     those that verify signatures refuse all requests"
                ),
                ClockState::Off => {
                    tracing::warn!(skew_seconds, "this machine's clock differs from the database's");
                }
                ClockState::Right => {
                    tracing::info!(skew_seconds, "this machine's clock agrees with the database's again");
                }
            }
        }
        *state
    }
}

impl ClockState {
    /// Returns the state after a measurement.
    fn after(self, skew: Duration, uncertainty: Duration) -> Self {
        let certain = skew.saturating_sub(uncertainty);
        for (limit, state) in [(REFUSED, Self::Refused), (OFF, Self::Off)] {
            let limit = if self >= state { limit * RIGHT_AGAIN.0 / RIGHT_AGAIN.1 } else { limit };
            if certain >= limit {
                return state;
            }
        }
        // A slow answer proves nothing, not even that the clock is right.
        if uncertainty >= OFF { self } else { Self::Right }
    }
}

#[cfg(test)]
mod tests {
    use super::ClockState::{Off, Refused, Right};
    use super::*;

    #[test]
    fn a_clock_is_off_from_five_seconds_and_refused_from_five_minutes() {
        let monitor = ClockMonitor::default();
        let quick = Duration::from_millis(1);
        let found = [0, 4_900, -5_100, -4_100, -3_900, 7_200_000, 250_000, 200_000, 0];
        let states = found.map(|millis| monitor.observe(millis, quick));
        assert_eq!(states, [Right, Right, Off, Off, Right, Refused, Refused, Off, Right]);
    }

    #[test]
    fn a_slow_answer_proves_nothing() {
        let monitor = ClockMonitor::default();
        let (quick, slow) = (Duration::from_millis(1), Duration::from_secs(6));
        assert_eq!(monitor.observe(6_000, slow), Right);
        assert_eq!(monitor.observe(6_000, quick), Off);
        assert_eq!(monitor.observe(0, slow), Off, "unchanged");
        assert_eq!(monitor.observe(0, quick), Right);
    }
}
