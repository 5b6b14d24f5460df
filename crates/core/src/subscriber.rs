//! Subscribers: how each one wants to be delivered to.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounds;
use crate::delivery::named;
use crate::object::only_objects;
use crate::retry::{Exponential, RetryError, RetryPolicy, RetrySchedule, Steps};

named! {
    /// Why a subscriber is not active.
    DeactivationReason, "deactivation reason" {
        /// Somebody asked for it.
        Requested = 0, "requested";
        /// It answered 410.
        Gone = 1, "gone";
        /// It failed for too long without a single success.
        Failing = 2, "failing";
    }
}

/// How deliveries to one subscriber are made. What it does not say, the deployment's settings say.
///
/// Stored and shown as [`PolicyFields`]; this type holds only values that were found good.
///
/// ```
/// use postrider_core::subscriber::{Policy, PolicyFields};
///
/// let fields: PolicyFields = serde_json::from_str(r#"{"max_attempts": 3, "schedule": ["1s", 10], "ordered": true}"#)?;
/// let policy = Policy::try_from(fields)?;
/// assert_eq!(policy.retry(&Default::default()).max_attempts(), 3);
///
/// let wrong = PolicyFields { max_attempts: Some(31), ..PolicyFields::default() };
/// assert_eq!(Policy::try_from(wrong).unwrap_err().field, "max_attempts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    fields: PolicyFields,
    schedule: Option<RetrySchedule>,
}

/// A policy as it is written in JSON: every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Policy))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct PolicyFields {
    /// Attempts of one round, 1 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The delays between attempts; not together with `exponential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Span>>,
    /// Delays that grow by a factor; not together with `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialFields>,
    /// How much is added to a delay at random, 0 to 50 percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u8>,
    /// How long an attempt may take in all, 1 s to 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Requests in flight at once over the whole deployment, 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitFields>,
    /// One delivery at a time, in the order of dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
}

/// An exponential schedule as it is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Exponential))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct ExponentialFields {
    /// The first delay, at least 100 ms.
    pub base: Span,
    /// 1 to 10.
    pub factor: f64,
    /// The longest delay, at most 24 h.
    pub cap: Span,
}

/// A rate limit as it is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RateLimit))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct RateLimitFields {
    /// Requests a second, above 0 and at most 10,000; may be a fraction.
    pub per_second: f64,
    /// How many may start at once after a pause, 1 to 10,000; if not given a tenth of a second's, at least 1, so that
    /// whoever comes a moment late loses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

only_objects!(PolicyFields, ExponentialFields, RateLimitFields);

/// A rate that was found good: one request each `interval`, and up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Time between requests at the full rate.
    pub interval: Duration,
    /// How many may start at once after a pause.
    pub burst: NonZeroU32,
}

/// Which field of a policy is wrong, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PolicyError {
    /// The field's name, with a dot where it is nested.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: PolicyErrorReason,
}

/// What is wrong with a field of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyErrorReason {
    /// A number of the retry policy is out of range.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// `schedule` and `exponential` were both given.
    #[error("give either `schedule` or `exponential`")]
    TwoSchedules,
    /// The timeout is out of range.
    #[error("a timeout is 1 s to 60 s")]
    Timeout,
    /// The concurrency is out of range.
    #[error("concurrency is 1 to 10000")]
    Concurrency,
    /// The rate is out of range.
    #[error("a rate is above 0 and at most 10000 a second, at least one in an hour")]
    Rate,
    /// The burst is out of range.
    #[error("a burst is 1 to 10000")]
    Burst,
}

impl Policy {
    /// The fields as they were given.
    pub fn fields(&self) -> &PolicyFields {
        &self.fields
    }

    /// The retry policy, with what is not given taken from `default`.
    pub fn retry(&self, default: &RetryPolicy) -> RetryPolicy {
        let schedule = self.schedule.as_ref().unwrap_or(default.schedule());
        let attempts = self.fields.max_attempts.unwrap_or(default.max_attempts());
        let jitter = self.fields.jitter_percent.unwrap_or(default.jitter_percent());
        // Both halves were found good, so the whole is: the default never stands in.
        RetryPolicy::try_new(schedule.clone(), attempts, jitter).unwrap_or_else(|_| default.clone())
    }

    /// How long an attempt may take in all, if the subscriber has a limit of its own.
    pub fn timeout(&self) -> Option<Duration> {
        self.fields.timeout.map(|span| span.0)
    }

    /// Requests in flight at once over the whole deployment, if the subscriber has a limit of its own.
    pub fn concurrency(&self) -> Option<u32> {
        self.fields.concurrency
    }

    /// The rate limit, if there is one.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        let RateLimitFields { per_second, burst } = self.fields.rate_limit?;
        // Of a number that was found good: at most 1000.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let burst = burst.unwrap_or((per_second / 10.0).ceil() as u32);
        Some(RateLimit {
            interval: Duration::from_secs_f64(1.0 / per_second),
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        })
    }

    /// Whether deliveries go out one at a time, in the order of dispatch.
    pub fn ordered(&self) -> bool {
        self.fields.ordered.unwrap_or(false)
    }
}

impl TryFrom<PolicyFields> for Policy {
    type Error = PolicyError;

    fn try_from(fields: PolicyFields) -> Result<Self, PolicyError> {
        let wrong = |field, reason: PolicyErrorReason| PolicyError { field, reason };
        let schedule = match (&fields.schedule, &fields.exponential) {
            (Some(_), Some(_)) => return Err(wrong("exponential", PolicyErrorReason::TwoSchedules)),
            (Some(steps), None) => {
                let steps = Steps::try_new(steps.iter().map(|span| span.0).collect());
                Some(RetrySchedule::Steps(steps.map_err(|error| wrong("schedule", error.into()))?))
            }
            (None, Some(ExponentialFields { base, factor, cap })) => {
                let field = |error: RetryError| match error {
                    RetryError::Base => "exponential.base",
                    RetryError::Factor => "exponential.factor",
                    _ => "exponential.cap",
                };
                let growing = Exponential::try_new(base.0, *factor, cap.0);
                Some(RetrySchedule::Exponential(growing.map_err(|error| wrong(field(error), error.into()))?))
            }
            (None, None) => None,
        };
        let checked = RetryPolicy::try_new(
            RetrySchedule::default(),
            fields.max_attempts.unwrap_or(1),
            fields.jitter_percent.unwrap_or(0),
        );
        checked.map_err(|error| {
            wrong(if error == RetryError::Jitter { "jitter_percent" } else { "max_attempts" }, error.into())
        })?;
        if fields.timeout.is_some_and(|Span(span)| !bounds::TIMEOUT.contains(&span)) {
            return Err(wrong("timeout", PolicyErrorReason::Timeout));
        }
        if fields.concurrency.is_some_and(|limit| !bounds::CONCURRENCY.contains(&limit)) {
            return Err(wrong("concurrency", PolicyErrorReason::Concurrency));
        }
        if let Some(RateLimitFields { per_second, burst }) = fields.rate_limit {
            if !bounds::REQUESTS_PER_SECOND.contains(&per_second) {
                return Err(wrong("rate_limit.per_second", PolicyErrorReason::Rate));
            }
            if burst.is_some_and(|burst| !bounds::BURST.contains(&burst)) {
                return Err(wrong("rate_limit.burst", PolicyErrorReason::Burst));
            }
        }
        Ok(Self { fields, schedule })
    }
}

/// A span of time in JSON: a number of seconds, or text such as `"1m 30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or text such as \"30s\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_secs(seconds)))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                u64::try_from(seconds)
                    .map_err(|_| E::custom("a span of time is not negative"))
                    .and_then(|s| self.visit_u64(s))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                Duration::try_from_secs_f64(seconds).map(Span).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text).map(Span).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(json: &str) -> Option<&'static str> {
        Policy::try_from(serde_json::from_str::<PolicyFields>(json).unwrap()).err().map(|error| error.field)
    }

    #[test]
    fn bounds_are_kept_and_the_field_is_named() {
        for (json, wrong) in [
            (r"{}", None),
            (r#"{"max_attempts":1}"#, None),
            (r#"{"max_attempts":30}"#, None),
            (r#"{"max_attempts":0}"#, Some("max_attempts")),
            (r#"{"max_attempts":31}"#, Some("max_attempts")),
            (r#"{"schedule":[]}"#, Some("schedule")),
            (r#"{"schedule":["25h"]}"#, Some("schedule")),
            (r#"{"schedule":[1],"exponential":{"base":1,"factor":2,"cap":3}}"#, Some("exponential")),
            (r#"{"exponential":{"base":0,"factor":2,"cap":3}}"#, Some("exponential.base")),
            (r#"{"exponential":{"base":1,"factor":0.5,"cap":3}}"#, Some("exponential.factor")),
            (r#"{"exponential":{"base":2,"factor":2,"cap":1}}"#, Some("exponential.cap")),
            (r#"{"jitter_percent":50}"#, None),
            (r#"{"jitter_percent":51}"#, Some("jitter_percent")),
            (r#"{"timeout":"999ms"}"#, Some("timeout")),
            (r#"{"timeout":60}"#, None),
            (r#"{"timeout":61}"#, Some("timeout")),
            (r#"{"concurrency":0}"#, Some("concurrency")),
            (r#"{"rate_limit":{"per_second":0}}"#, Some("rate_limit.per_second")),
            (
                r#"{"rate_limit":{"per_second":1e400}}"#.replace("1e400", "10001").as_str(),
                Some("rate_limit.per_second"),
            ),
            (r#"{"rate_limit":{"per_second":50,"burst":0}}"#, Some("rate_limit.burst")),
            (r#"{"rate_limit":{"per_second":0.5,"burst":10}}"#, None),
        ] {
            assert_eq!(field(json), wrong, "{json}");
        }
    }

    /// Below, at and above each bound, and anywhere else; which of them hold.
    fn around<T: Copy + fmt::Debug + PartialOrd + 'static>(
        edges: &'static [T],
        good: std::ops::RangeInclusive<T>,
    ) -> impl Strategy<Value = Option<(T, bool)>> {
        prop::option::of(prop::sample::select(edges).prop_map(move |value| (value, good.contains(&value))))
    }

    fn millis(span: u64) -> Span {
        Span(Duration::from_millis(span))
    }

    const DAY: u64 = 86_400_000;

    proptest! {
        #[test]
        fn whatever_is_wrong_is_refused_by_its_name(
            attempts in around(&[0, 1, 2, 29, 30, 31, u32::MAX], 1..=30),
            jitter in around(&[0_u8, 1, 50, 51, 255], 0..=50),
            timeout in around(&[0, 999, 1000, 60_000, 60_001, u64::MAX], 1000..=60_000),
            concurrency in around(&[0, 1, 10_000, 10_001, u32::MAX], 1..=10_000),
            per_second in around(
                &[f64::NEG_INFINITY, -1.0, 0.0, 1e-9, 0.5, 50.0, 10_000.0, 10_000.1, f64::INFINITY, f64::NAN],
                0.5..=10_000.0,
            ),
            burst in around(&[0, 1, 10_000, 10_001, u32::MAX], 1..=10_000),
            steps in around(&[0, 1, 30, 31], 1..=30),
            step in prop::sample::select(&[0, 1, DAY, DAY + 1][..]),
            base in around(&[0, 99, 100, 1000], 100..=1000),
            factor in prop::sample::select(&[0.0, 0.99, 1.0, 10.0, 10.1, f64::NAN, f64::INFINITY][..]),
            cap in prop::sample::select(&[0, 99, 1000, DAY, DAY + 1][..]),
        ) {
            let fields = PolicyFields {
                max_attempts: attempts.map(|(value, _)| value),
                schedule: steps.map(|(count, _)| vec![millis(step); count]),
                exponential: base.map(|(base, _)| ExponentialFields { base: millis(base), factor, cap: millis(cap) }),
                jitter_percent: jitter.map(|(value, _)| value),
                timeout: timeout.map(|(value, _)| millis(value)),
                concurrency: concurrency.map(|(value, _)| value),
                rate_limit: per_second
                    .map(|(per_second, _)| RateLimitFields { per_second, burst: burst.map(|(value, _)| value) }),
                ordered: None,
            };
            let is_wrong = |holds: Option<bool>| holds == Some(false);
            let mut wrong = Vec::new();
            let mut judge = |field, found: bool| if found { wrong.push(field) };
            judge("max_attempts", is_wrong(attempts.map(|(_, holds)| holds)));
            judge("jitter_percent", is_wrong(jitter.map(|(_, holds)| holds)));
            judge("timeout", is_wrong(timeout.map(|(_, holds)| holds)));
            judge("concurrency", is_wrong(concurrency.map(|(_, holds)| holds)));
            judge("rate_limit.per_second", is_wrong(per_second.map(|(_, holds)| holds)));
            judge("rate_limit.burst", per_second.is_some() && is_wrong(burst.map(|(_, holds)| holds)));
            judge("schedule", steps.is_some_and(|(count, holds)| !holds || (count > 0 && step > DAY)));
            judge("exponential", steps.is_some() && base.is_some());
            if let Some((base, holds)) = base {
                judge("exponential.base", !holds);
                judge("exponential.factor", !(1.0..=10.0).contains(&factor));
                judge("exponential.cap", cap < base || cap > DAY);
            }
            match Policy::try_from(fields) {
                Ok(_) => prop_assert_eq!(wrong, Vec::<&str>::new()),
                Err(error) => prop_assert!(wrong.contains(&error.field), "{error}: {wrong:?}"),
            }
        }
    }

    #[test]
    fn unknown_fields_and_odd_spans_are_refused() {
        for json in [r#"{"retries":3}"#, r#"{"timeout":-1}"#, r#"{"timeout":"soon"}"#, r#"{"timeout":[]}"#] {
            assert!(serde_json::from_str::<PolicyFields>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_array_is_no_object() {
        for json in ["[]", "[3]", r#"{"rate_limit":[50.0,10]}"#, r#"{"exponential":["1s",2.0,"1m"]}"#] {
            let error = serde_json::from_str::<PolicyFields>(json).unwrap_err().to_string();
            assert!(error.starts_with("invalid type: sequence, expected an object"), "{json}: {error}");
        }
    }

    #[test]
    fn a_burst_is_a_tenth_of_a_second_unless_given() {
        for (per_second, burst) in [("0.5", 1), ("1", 1), ("10", 1), ("10.5", 2), ("50", 5), ("10000", 1000)]
        {
            let json = format!(r#"{{"rate_limit":{{"per_second":{per_second}}}}}"#);
            let policy = Policy::try_from(serde_json::from_str::<PolicyFields>(&json).unwrap()).unwrap();
            assert_eq!(policy.rate_limit().unwrap().burst.get(), burst, "{per_second} a second");
        }
    }

    #[test]
    fn what_was_given_comes_back() {
        let json =
            r#"{"schedule":["1s","1m 30s"],"timeout":"5s","rate_limit":{"per_second":50.0,"burst":10}}"#;
        let policy = Policy::try_from(serde_json::from_str::<PolicyFields>(json).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(policy.fields()).unwrap(), json);
        assert_eq!(policy.rate_limit().unwrap().interval, Duration::from_millis(20));
    }
}
