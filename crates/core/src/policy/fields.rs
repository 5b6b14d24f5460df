//! The JSON form of a policy.

use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::object::only_objects;

/// A policy in JSON. Every field may be left out; unknown fields are rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Policy))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct PolicyFields {
    /// The number of attempts in one round of delivering, within [`bounds::MAX_ATTEMPTS`](crate::bounds::MAX_ATTEMPTS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The delays between attempts; excludes `exponential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Span>>,
    /// Delays that grow by a factor; excludes `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialFields>,
    /// The greatest random part of a delay, in percent of the delay, within
    /// [`bounds::JITTER_PERCENT`](crate::bounds::JITTER_PERCENT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u8>,
    /// The time limit of an attempt, within [`bounds::TIMEOUT`](crate::bounds::TIMEOUT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The number of requests in flight at once, counted over the whole deployment, within
    /// [`bounds::CONCURRENCY`](crate::bounds::CONCURRENCY).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The limit on requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitFields>,
    /// Whether deliveries go out one at a time, in the order of their dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
}

/// An exponential retry schedule in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Exponential))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct ExponentialFields {
    /// The first delay, within [`bounds::EXPONENTIAL_BASE`](crate::bounds::EXPONENTIAL_BASE).
    pub base: Span,
    /// The factor between successive delays, within [`bounds::EXPONENTIAL_FACTOR`](crate::bounds::EXPONENTIAL_FACTOR).
    pub factor: f64,
    /// The longest delay: at least `base`, and within [`bounds::DELAY`](crate::bounds::DELAY).
    pub cap: Span,
}

/// A rate limit in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RateLimit))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct RateLimitFields {
    /// Requests per second, within [`bounds::REQUESTS_PER_SECOND`](crate::bounds::REQUESTS_PER_SECOND); may be a
    /// fraction.
    pub per_second: f64,
    /// The number of requests that may start at once after an idle period, within
    /// [`bounds::BURST`](crate::bounds::BURST).
    ///
    /// The default is a tenth of `per_second`, rounded up. With a burst of 1, a worker that starts a request late would
    /// lose that part of the rate for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

only_objects!(PolicyFields, ExponentialFields, RateLimitFields);
