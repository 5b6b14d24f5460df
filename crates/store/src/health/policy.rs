//! When circuit breakers open, and when subscribers are deactivated.

use std::time::Duration;

/// When a circuit breaker opens, for how long, and when a failing subscriber is deactivated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// The number of failures in a row that opens a breaker; 0 disables breakers.
    pub breaker_failures: u32,
    /// The first pause of an open breaker. It doubles each time that the breaker opens again.
    pub breaker_pause: Duration,
    /// The longest pause of an open breaker.
    pub breaker_max_pause: Duration,
    /// How long a subscriber may fail without a single success before it is deactivated; `None` never deactivates.
    pub deactivate_after: Option<Duration>,
}

impl Default for BreakerPolicy {
    /// Ten failures; 30 s, doubling up to 10 min; five days.
    fn default() -> Self {
        Self {
            breaker_failures: 10,
            breaker_pause: Duration::from_secs(30),
            breaker_max_pause: Duration::from_mins(10),
            deactivate_after: Some(Duration::from_hours(5 * 24)),
        }
    }
}

impl BreakerPolicy {
    /// The pause of a breaker that has already opened `openings` times in a row.
    pub(super) fn pause(&self, openings: u32) -> Duration {
        self.breaker_pause.saturating_mul(1 << openings.min(20)).min(self.breaker_max_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = BreakerPolicy::default();
        let pauses: Vec<_> = (0..7).map(|openings| policy.pause(openings).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(policy.pause(u32::MAX).as_secs(), 600);
    }
}
