//! How deliveries to one subscriber are made.

mod fields;
mod request;
mod span;

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::time::Duration;

pub use fields::{ExponentialFields, PolicyFields, RateLimitFields};
pub use request::{Compression, RequestMethod};
pub use span::Span;

use crate::bounds;
use crate::expression::ExpressionId;
use crate::retry::{Exponential, JitterPercent, MaxAttempts, RetryError, RetryPolicy, RetrySchedule, Steps};

/// A subscriber's delivery policy. The deployment's settings apply to everything that it leaves out.
///
/// [`PolicyFields`] is its form in JSON and in the database; a `Policy` is one whose values have been validated against
/// [`bounds`].
///
/// ```
/// use postrider_core::policy::{Policy, PolicyFields};
///
/// let fields: PolicyFields = serde_json::from_str(r#"{"max_attempts": 3, "schedule": ["1s", 10], "ordered": true}"#)?;
/// let policy = Policy::try_from(fields)?;
/// assert_eq!(policy.retry(&Default::default()).max_attempts(), 3);
///
/// let invalid = PolicyFields { max_attempts: Some(31), ..PolicyFields::default() };
/// let error = Policy::try_from(invalid).unwrap_err();
/// assert_eq!(error.to_string(), "max_attempts: the number of attempts must be from 1 to 30");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    fields: PolicyFields,
    schedule: Option<RetrySchedule>,
    max_attempts: Option<MaxAttempts>,
    jitter: Option<JitterPercent>,
    timeout: Option<AttemptTimeout>,
    concurrency: Option<NonZeroU32>,
    rate_limit: Option<RateLimit>,
}

/// The time limit of one attempt, within [`bounds::TIMEOUT`].
///
/// ```
/// use postrider_core::policy::AttemptTimeout;
/// use std::time::Duration;
///
/// assert_eq!(AttemptTimeout::try_new(Duration::from_secs(5))?.duration(), Duration::from_secs(5));
/// assert!(AttemptTimeout::try_new(Duration::from_secs(61)).is_err());
/// # Ok::<(), postrider_core::policy::PolicyErrorReason>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptTimeout(Duration);

/// A rate limit: one request per `interval` on average, and up to `burst` at once after an idle period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time between requests at the full rate.
    pub interval: Duration,
    /// The number of requests that may start at once after an idle period.
    pub burst: NonZeroU32,
}

/// Which field of a policy is invalid, and what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PolicyError {
    /// The name of the field in JSON, with dots where it is nested.
    pub field: &'static str,
    /// What was expected.
    pub reason: PolicyErrorReason,
}

/// What was expected of an invalid field of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyErrorReason {
    /// A value of the retry policy is out of bounds.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// Both `schedule` and `exponential` were given.
    #[error("`schedule` and `exponential` exclude each other; give only one of them")]
    TwoSchedules,
    /// The timeout is out of [`bounds::TIMEOUT`].
    #[error("a timeout must be from {:?} to {:?}", bounds::TIMEOUT.start(), bounds::TIMEOUT.end())]
    Timeout,
    /// The concurrency is out of [`bounds::CONCURRENCY`].
    #[error("the concurrency must be from {} to {}", bounds::CONCURRENCY.start(), bounds::CONCURRENCY.end())]
    Concurrency,
    /// The rate is out of [`bounds::REQUESTS_PER_SECOND`].
    #[error(
        "the rate must be at least one request per hour (1/3600 per second) and at most {} per second",
        bounds::REQUESTS_PER_SECOND.end()
    )]
    Rate,
    /// The burst is out of [`bounds::BURST`].
    #[error("the burst must be from {} to {}", bounds::BURST.start(), bounds::BURST.end())]
    Burst,
}

impl Policy {
    /// Returns the fields as the client gave them.
    pub fn fields(&self) -> &PolicyFields {
        &self.fields
    }

    /// Returns what stands for the policy: the same for the same fields.
    pub fn version(&self) -> ExpressionId {
        ExpressionId::of(self.to_json().as_bytes())
    }

    /// Returns the fields as JSON, as they are stored.
    pub fn to_json(&self) -> String {
        // Maps with texts as keys, numbers and texts: this cannot fail.
        serde_json::to_string(&self.fields).unwrap_or_default()
    }

    /// Returns the retry policy. What this policy leaves out comes from `default`.
    pub fn retry(&self, default: &RetryPolicy) -> RetryPolicy {
        default.overridden(self.schedule.as_ref(), self.max_attempts, self.jitter)
    }

    /// Returns the time limit of an attempt; `None` if the deployment's applies.
    pub fn timeout(&self) -> Option<AttemptTimeout> {
        self.timeout
    }

    /// Returns how many requests may be in flight at once, counted over the whole deployment; `None` for no limit.
    pub fn concurrency(&self) -> Option<NonZeroU32> {
        self.concurrency
    }

    /// Returns the rate limit; `None` for no limit.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// Returns whether deliveries go out one at a time, in the order of their dispatch.
    pub fn ordered(&self) -> bool {
        self.fields.ordered.unwrap_or(false)
    }

    /// Returns the HTTP method of requests.
    pub fn method(&self) -> RequestMethod {
        self.fields.method.unwrap_or(RequestMethod::Post)
    }

    /// Returns how bodies above [`bounds::COMPRESSED_ABOVE`] are compressed; `None` if they are not.
    pub fn compression(&self) -> Option<Compression> {
        self.fields.compression
    }
}

impl TryFrom<PolicyFields> for Policy {
    type Error = PolicyError;

    /// Validates the fields, and reports the first that is invalid.
    fn try_from(fields: PolicyFields) -> Result<Self, PolicyError> {
        let max_attempts = fields.max_attempts.map(MaxAttempts::try_new).transpose();
        let jitter = fields.jitter_percent.map(JitterPercent::try_new).transpose();
        let timeout = fields.timeout.map(|span| AttemptTimeout::try_new(span.0)).transpose();
        Ok(Self {
            schedule: schedule(&fields)?,
            max_attempts: max_attempts.map_err(|error| invalid("max_attempts", error))?,
            jitter: jitter.map_err(|error| invalid("jitter_percent", error))?,
            timeout: timeout.map_err(|reason| invalid("timeout", reason))?,
            concurrency: fields.concurrency.map(concurrency).transpose()?,
            rate_limit: fields.rate_limit.map(RateLimit::try_from).transpose()?,
            fields,
        })
    }
}

impl AttemptTimeout {
    /// Validates a time limit.
    ///
    /// # Errors
    /// Fails with [`PolicyErrorReason::Timeout`] if it is out of [`bounds::TIMEOUT`].
    pub fn try_new(timeout: Duration) -> Result<Self, PolicyErrorReason> {
        if bounds::TIMEOUT.contains(&timeout) { Ok(Self(timeout)) } else { Err(PolicyErrorReason::Timeout) }
    }

    /// Returns the time limit.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<RateLimitFields> for RateLimit {
    type Error = PolicyError;

    fn try_from(fields: RateLimitFields) -> Result<Self, PolicyError> {
        let RateLimitFields { per_second, burst } = fields;
        if !bounds::REQUESTS_PER_SECOND.contains(&per_second) {
            return Err(invalid("rate_limit.per_second", PolicyErrorReason::Rate));
        }
        // From 1 to 1,000, since the rate is at most 10,000 and above zero.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let burst = burst.unwrap_or((per_second / 10.0).ceil() as u32);
        let burst = NonZeroU32::new(burst)
            .filter(|burst| bounds::BURST.contains(&burst.get()))
            .ok_or(invalid("rate_limit.burst", PolicyErrorReason::Burst))?;
        Ok(Self { interval: Duration::from_secs_f64(1.0 / per_second), burst })
    }
}

fn schedule(fields: &PolicyFields) -> Result<Option<RetrySchedule>, PolicyError> {
    match (&fields.schedule, &fields.exponential) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(invalid("exponential", PolicyErrorReason::TwoSchedules)),
        (Some(spans), None) => {
            let steps = Steps::try_new(spans.iter().map(|span| span.0).collect());
            Ok(Some(RetrySchedule::Steps(steps.map_err(|error| invalid("schedule", error))?)))
        }
        (None, Some(ExponentialFields { base, factor, cap })) => {
            let field = |error: RetryError| match error {
                RetryError::Base => "exponential.base",
                RetryError::Factor => "exponential.factor",
                _ => "exponential.cap",
            };
            let exponential = Exponential::try_new(base.0, *factor, cap.0);
            let exponential = exponential.map_err(|error| invalid(field(error), error))?;
            Ok(Some(RetrySchedule::Exponential(exponential)))
        }
    }
}

fn concurrency(limit: u32) -> Result<NonZeroU32, PolicyError> {
    NonZeroU32::new(limit)
        .filter(|limit| bounds::CONCURRENCY.contains(&limit.get()))
        .ok_or(invalid("concurrency", PolicyErrorReason::Concurrency))
}

fn invalid(field: &'static str, reason: impl Into<PolicyErrorReason>) -> PolicyError {
    PolicyError { field, reason: reason.into() }
}
