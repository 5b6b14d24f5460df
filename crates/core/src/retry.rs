//! When a failed delivery is tried again.

use std::time::Duration;

use crate::{Random, bounds};

/// The delays between attempts, without their random part.
#[derive(Clone, Debug, PartialEq)]
pub enum RetrySchedule {
    /// One delay after each failed attempt; past its end the last one repeats.
    Steps(Steps),
    /// `base × factor^n`, never over `cap`.
    Exponential(Exponential),
}

/// A list of delays: 1 to 30 of them, each at most 24 hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<Duration>);

/// A delay that grows by a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    base: Duration,
    factor: f64,
    cap: Duration,
}

/// Why numbers do not make a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// No step, or over 30.
    #[error("a schedule has 1 to 30 delays")]
    Steps,
    /// A delay over 24 hours.
    #[error("a delay is at most 24 hours")]
    Delay,
    /// A base below 100 ms.
    #[error("the base of an exponential schedule is at least 100 ms")]
    Base,
    /// A factor outside of 1 to 10.
    #[error("the factor of an exponential schedule is 1 to 10")]
    Factor,
    /// A cap below the base.
    #[error("the cap of an exponential schedule is not below its base")]
    Cap,
    /// Attempts outside of 1 to 30.
    #[error("a delivery has 1 to 30 attempts")]
    MaxAttempts,
    /// Jitter over 50 %.
    #[error("the random part of a delay is 0 to 50 percent")]
    Jitter,
}

/// The longest delay that a receiver's `Retry-After` may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

impl Steps {
    /// From the delays after the first, second, … failed attempt.
    ///
    /// # Errors
    /// If there are none or over 30, or one is over 24 hours.
    pub fn try_new(delays: Vec<Duration>) -> Result<Self, RetryError> {
        if !bounds::SCHEDULE_LENGTH.contains(&delays.len()) {
            return Err(RetryError::Steps);
        }
        if !delays.iter().all(|delay| bounds::DELAY.contains(delay)) {
            return Err(RetryError::Delay);
        }
        Ok(Self(delays))
    }

    /// The delays.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }
}

impl Exponential {
    /// `base × factor^n`, never over `cap`.
    ///
    /// # Errors
    /// If the base is below 100 ms, the factor outside of 1 to 10, or the cap below the base or over 24 hours.
    pub fn try_new(base: Duration, factor: f64, cap: Duration) -> Result<Self, RetryError> {
        if !bounds::EXPONENTIAL_BASE.contains(&base) {
            return Err(RetryError::Base);
        }
        if !bounds::EXPONENTIAL_FACTOR.contains(&factor) {
            return Err(RetryError::Factor);
        }
        if cap < base {
            return Err(RetryError::Cap);
        }
        if !bounds::DELAY.contains(&cap) {
            return Err(RetryError::Delay);
        }
        Ok(Self { base, factor, cap })
    }

    /// The first delay.
    pub fn base(&self) -> Duration {
        self.base
    }

    /// What each delay is multiplied with to make the next.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The longest delay.
    pub fn cap(&self) -> Duration {
        self.cap
    }
}

impl RetrySchedule {
    /// The delay after `failed` attempts have failed; `failed` counts from 1.
    fn delay(&self, failed: u32) -> Duration {
        let earlier = failed.saturating_sub(1);
        match self {
            Self::Steps(Steps(delays)) => {
                let last = delays.len().saturating_sub(1);
                delays.get(last.min(earlier as usize)).copied().unwrap_or_default()
            }
            Self::Exponential(Exponential { base, factor, cap }) => {
                let seconds = base.as_secs_f64() * factor.powf(f64::from(earlier));
                Duration::from_secs_f64(seconds.min(cap.as_secs_f64()))
            }
        }
    }
}

impl Default for RetrySchedule {
    /// 1 s, 5 s, 30 s, 2 min, 10 min, 30 min.
    fn default() -> Self {
        Self::Steps(Steps([1, 5, 30, 120, 600, 1800].map(Duration::from_secs).to_vec()))
    }
}

/// How often and when a delivery is tried.
///
/// ```
/// use postrider_core::{RetryPolicy, SystemRandom};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default();
/// let after_first = policy.delay_after(1, None, &SystemRandom).unwrap();
/// assert!((Duration::from_secs(1)..=Duration::from_millis(1100)).contains(&after_first));
/// assert_eq!(policy.delay_after(6, None, &SystemRandom), None, "six attempts, then it is dead");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    schedule: RetrySchedule,
    max_attempts: u32,
    jitter_percent: u8,
}

impl RetryPolicy {
    /// A policy of `max_attempts` (1 to 30) with up to `jitter_percent` (0 to 50) added at random to each delay.
    ///
    /// # Errors
    /// If a number is outside of its range.
    pub fn try_new(
        schedule: RetrySchedule,
        max_attempts: u32,
        jitter_percent: u8,
    ) -> Result<Self, RetryError> {
        if !bounds::MAX_ATTEMPTS.contains(&max_attempts) {
            return Err(RetryError::MaxAttempts);
        }
        if !bounds::JITTER_PERCENT.contains(&jitter_percent) {
            return Err(RetryError::Jitter);
        }
        Ok(Self { schedule, max_attempts, jitter_percent })
    }

    /// The delays.
    pub fn schedule(&self) -> &RetrySchedule {
        &self.schedule
    }

    /// How many attempts a round of delivering has.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// How much of a delay may be added to it at random, in percent.
    pub fn jitter_percent(&self) -> u8 {
        self.jitter_percent
    }

    /// How long to wait after `failed` attempts of this round have failed (1 after the first), or
    /// `None` when they are used up.
    ///
    /// `retry_after` is what the receiver asked for: it lengthens the delay, up to
    /// [`MAX_RETRY_AFTER`], and never shortens it.
    pub fn delay_after(
        &self,
        failed: u32,
        retry_after: Option<Duration>,
        random: &dyn Random,
    ) -> Option<Duration> {
        if failed >= self.max_attempts {
            return None;
        }
        let step = self.schedule.delay(failed);
        let jitter = step.mul_f64(f64::from(self.jitter_percent) / 100.0 * random.fraction());
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        Some((step + jitter).max(asked))
    }
}

impl Default for RetryPolicy {
    /// Six attempts on the default schedule, with up to 10 % of random delay.
    fn default() -> Self {
        Self { schedule: RetrySchedule::default(), max_attempts: 6, jitter_percent: 10 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Always(u8);
    impl Random for Always {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn the_default_schedule_is_the_designs() {
        let policy = RetryPolicy::default();
        let delays: Vec<_> =
            (1..=6).map(|n| policy.delay_after(n, None, &Always(0)).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(5), Some(30), Some(120), Some(600), None]);
    }

    #[test]
    fn past_its_end_the_last_step_repeats() {
        let steps = Steps::try_new(vec![Duration::from_secs(1), Duration::from_secs(2)]).unwrap();
        let policy = RetryPolicy::try_new(RetrySchedule::Steps(steps), 5, 0).unwrap();
        let delays: Vec<_> =
            (1..5).map(|n| policy.delay_after(n, None, &Always(255)).unwrap().as_secs()).collect();
        assert_eq!(delays, [1, 2, 2, 2]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Steps::try_new(vec![]), Err(RetryError::Steps));
        assert_eq!(Steps::try_new(vec![second; 31]), Err(RetryError::Steps));
        assert_eq!(Steps::try_new(vec![DAY + second]), Err(RetryError::Delay));
        assert_eq!(Exponential::try_new(Duration::ZERO, 2.0, second), Err(RetryError::Base));
        assert_eq!(Exponential::try_new(second, f64::NAN, second), Err(RetryError::Factor));
        assert_eq!(Exponential::try_new(second, 10.1, second), Err(RetryError::Factor));
        assert_eq!(Exponential::try_new(second, 2.0, second / 2), Err(RetryError::Cap));
        assert_eq!(Exponential::try_new(second, 2.0, DAY * 2), Err(RetryError::Delay));
        let policy = |attempts, jitter| RetryPolicy::try_new(RetrySchedule::default(), attempts, jitter);
        assert_eq!(policy(0, 0), Err(RetryError::MaxAttempts));
        assert_eq!(policy(31, 0), Err(RetryError::MaxAttempts));
        assert_eq!(policy(1, 51), Err(RetryError::Jitter));
        assert!(policy(1, 0).is_ok() && policy(30, 50).is_ok());
    }

    proptest! {
        #[test]
        fn a_delay_is_never_early_and_never_past_its_jitter(
            base in 100_u64..100_000, factor in 1.0_f64..10.0, cap in 100_000_u64..86_400_000,
            jitter in 0_u8..=50, failed in 1_u32..30, byte: u8,
        ) {
            let exponential = Exponential::try_new(Duration::from_millis(base), factor, Duration::from_millis(cap)).unwrap();
            let schedule = RetrySchedule::Exponential(exponential);
            let step = schedule.delay(failed);
            let policy = RetryPolicy::try_new(schedule, 30, jitter).unwrap();
            let delay = policy.delay_after(failed, None, &Always(byte)).unwrap();
            prop_assert!(step <= Duration::from_millis(cap));
            prop_assert!(delay >= step && delay <= step.mul_f64(1.0 + f64::from(jitter) / 100.0) + Duration::from_nanos(1));
        }

        #[test]
        fn retry_after_only_lengthens_and_at_most_to_an_hour(asked in 0_u64..100_000, failed in 1_u32..6) {
            let policy = RetryPolicy::default();
            let plain = policy.delay_after(failed, None, &Always(0)).unwrap();
            let delay = policy.delay_after(failed, Some(Duration::from_secs(asked)), &Always(0)).unwrap();
            prop_assert_eq!(delay, plain.max(Duration::from_secs(asked.min(3600))));
        }
    }
}
