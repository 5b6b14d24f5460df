//! The retry policy: how often, and after which delays, a failed delivery is attempted again.

use std::time::Duration;

use crate::{Random, bounds};

/// The number of attempts and the delays between them.
///
/// ```
/// use postrider_core::{RetryPolicy, SystemRandom};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default();
/// let delay = policy.delay_after(1, None, &SystemRandom).unwrap();
/// assert!((Duration::from_secs(1)..=Duration::from_millis(1100)).contains(&delay));
/// assert_eq!(policy.delay_after(6, None, &SystemRandom), None, "the sixth attempt is the last");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    schedule: RetrySchedule,
    max_attempts: MaxAttempts,
    jitter: JitterPercent,
}

/// The delays between attempts, without their random part.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RetrySchedule {
    /// One delay after each failed attempt. The last delay repeats.
    Steps(Steps),
    /// `base × factor^n` after `n + 1` failed attempts, at most `cap`.
    Exponential(Exponential),
}

/// A list of delays, within [`bounds::SCHEDULE_LENGTH`] and [`bounds::DELAY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<Duration>);

/// A delay that grows by a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    base: Duration,
    factor: f64,
    cap: Duration,
}

/// A number of attempts within [`bounds::MAX_ATTEMPTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAttempts(u32);

/// The greatest random part of a delay, in percent of the delay, within [`bounds::JITTER_PERCENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterPercent(u8);

/// Which value of a retry policy is out of bounds, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// The schedule has too few or too many delays.
    #[error(
        "a retry schedule must have {} to {} delays",
        bounds::SCHEDULE_LENGTH.start(),
        bounds::SCHEDULE_LENGTH.end()
    )]
    Steps,
    /// A delay is too long.
    #[error("a retry delay must be at most 24h")]
    Delay,
    /// The base of an exponential schedule is out of bounds.
    #[error(
        "the base of an exponential schedule must be at least {:?} and at most 24h",
        bounds::EXPONENTIAL_BASE.start()
    )]
    Base,
    /// The factor of an exponential schedule is out of bounds.
    #[error(
        "the factor of an exponential schedule must be from {} to {}",
        bounds::EXPONENTIAL_FACTOR.start(),
        bounds::EXPONENTIAL_FACTOR.end()
    )]
    Factor,
    /// The cap of an exponential schedule is below its base.
    #[error("the cap of an exponential schedule must be at least its base")]
    Cap,
    /// The number of attempts is out of bounds.
    #[error(
        "the number of attempts must be from {} to {}",
        bounds::MAX_ATTEMPTS.start(),
        bounds::MAX_ATTEMPTS.end()
    )]
    MaxAttempts,
    /// The jitter is out of bounds.
    #[error("the jitter must be at most {} percent", bounds::JITTER_PERCENT.end())]
    Jitter,
}

/// The longest delay that a receiver can ask for with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

impl RetryPolicy {
    /// Makes a policy of validated parts.
    pub fn new(schedule: RetrySchedule, max_attempts: MaxAttempts, jitter: JitterPercent) -> Self {
        Self { schedule, max_attempts, jitter }
    }

    /// Validates `max_attempts` and `jitter_percent`, and makes a policy.
    ///
    /// # Errors
    /// Fails if a number is out of [`bounds::MAX_ATTEMPTS`] or [`bounds::JITTER_PERCENT`].
    pub fn try_new(
        schedule: RetrySchedule,
        max_attempts: u32,
        jitter_percent: u8,
    ) -> Result<Self, RetryError> {
        Ok(Self::new(schedule, MaxAttempts::try_new(max_attempts)?, JitterPercent::try_new(jitter_percent)?))
    }

    /// Returns this policy with the given parts in place of its own.
    pub(crate) fn overridden(
        &self,
        schedule: Option<&RetrySchedule>,
        max_attempts: Option<MaxAttempts>,
        jitter: Option<JitterPercent>,
    ) -> Self {
        Self {
            schedule: schedule.unwrap_or(&self.schedule).clone(),
            max_attempts: max_attempts.unwrap_or(self.max_attempts),
            jitter: jitter.unwrap_or(self.jitter),
        }
    }

    /// Returns the delays between attempts.
    pub fn schedule(&self) -> &RetrySchedule {
        &self.schedule
    }

    /// Returns the number of attempts in one round of delivering.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.0
    }

    /// Returns the greatest random part of a delay, in percent of the delay.
    pub fn jitter_percent(&self) -> u8 {
        self.jitter.0
    }

    /// Returns the delay before the next attempt, or `None` if `failed` attempts used the policy up. `failed` is the
    /// number of failed attempts in this round: 1 after the first.
    ///
    /// `retry_after` is the delay that the receiver asked for. It lengthens the delay, up to [`MAX_RETRY_AFTER`], and
    /// never shortens it.
    pub fn delay_after(
        &self,
        failed: u32,
        retry_after: Option<Duration>,
        random: &dyn Random,
    ) -> Option<Duration> {
        if failed >= self.max_attempts.0 {
            return None;
        }
        let step = self.schedule.delay(failed);
        let jitter = step.mul_f64(f64::from(self.jitter.0) / 100.0 * random.fraction());
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        Some((step + jitter).max(asked))
    }
}

impl Default for RetryPolicy {
    /// Six attempts on the default schedule, with up to 10 % jitter.
    fn default() -> Self {
        Self { schedule: RetrySchedule::default(), max_attempts: MaxAttempts(6), jitter: JitterPercent(10) }
    }
}

impl RetrySchedule {
    /// Returns the delay after `failed` attempts have failed; `failed` counts from 1.
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

impl Steps {
    /// Takes the delays after the first, second, … failed attempt.
    ///
    /// # Errors
    /// Fails if their number is out of [`bounds::SCHEDULE_LENGTH`], or one of them out of [`bounds::DELAY`].
    pub fn try_new(delays: Vec<Duration>) -> Result<Self, RetryError> {
        if !bounds::SCHEDULE_LENGTH.contains(&delays.len()) {
            return Err(RetryError::Steps);
        }
        if !delays.iter().all(|delay| bounds::DELAY.contains(delay)) {
            return Err(RetryError::Delay);
        }
        Ok(Self(delays))
    }

    /// Returns the delays.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }
}

impl Exponential {
    /// Takes the first delay, the factor between successive delays, and the longest delay.
    ///
    /// # Errors
    /// Fails if the base is out of [`bounds::EXPONENTIAL_BASE`], the factor out of [`bounds::EXPONENTIAL_FACTOR`], or
    /// the cap below the base or out of [`bounds::DELAY`].
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

    /// Returns the first delay.
    pub fn base(&self) -> Duration {
        self.base
    }

    /// Returns the factor between successive delays.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Returns the longest delay.
    pub fn cap(&self) -> Duration {
        self.cap
    }
}

impl MaxAttempts {
    /// Validates a number of attempts.
    ///
    /// # Errors
    /// Fails with [`RetryError::MaxAttempts`] if it is out of [`bounds::MAX_ATTEMPTS`].
    pub fn try_new(attempts: u32) -> Result<Self, RetryError> {
        if bounds::MAX_ATTEMPTS.contains(&attempts) {
            Ok(Self(attempts))
        } else {
            Err(RetryError::MaxAttempts)
        }
    }
}

impl JitterPercent {
    /// Validates a percentage.
    ///
    /// # Errors
    /// Fails with [`RetryError::Jitter`] if it is out of [`bounds::JITTER_PERCENT`].
    pub fn try_new(percent: u8) -> Result<Self, RetryError> {
        if bounds::JITTER_PERCENT.contains(&percent) { Ok(Self(percent)) } else { Err(RetryError::Jitter) }
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
    fn the_default_policy_makes_six_attempts_with_growing_delays() {
        let policy = RetryPolicy::default();
        let delays: Vec<_> =
            (1..=6).map(|n| policy.delay_after(n, None, &Always(0)).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(5), Some(30), Some(120), Some(600), None]);
    }

    #[test]
    fn the_last_step_repeats() {
        let steps = Steps::try_new(vec![Duration::from_secs(1), Duration::from_secs(2)]).unwrap();
        let policy = RetryPolicy::try_new(RetrySchedule::Steps(steps), 5, 0).unwrap();
        let delays: Vec<_> =
            (1..5).map(|n| policy.delay_after(n, None, &Always(255)).unwrap().as_secs()).collect();
        assert_eq!(delays, [1, 2, 2, 2]);
    }

    #[test]
    fn values_out_of_bounds_are_rejected() {
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
        fn a_delay_lies_between_its_step_and_its_jitter(
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
        fn retry_after_lengthens_a_delay_up_to_an_hour(asked in 0_u64..100_000, failed in 1_u32..6) {
            let policy = RetryPolicy::default();
            let plain = policy.delay_after(failed, None, &Always(0)).unwrap();
            let delay = policy.delay_after(failed, Some(Duration::from_secs(asked)), &Always(0)).unwrap();
            prop_assert_eq!(delay, plain.max(Duration::from_secs(asked.min(3600))));
        }
    }
}
