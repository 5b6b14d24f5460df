//! The JSON form of a policy.
//!
//! The documentation of these types is also their description in the API. The allowed values are in
//! [`bounds`](crate::bounds), from where `postrider-api` adds them to the description.

use serde::{Deserialize, Serialize};

use super::request::{Compression, RequestMethod};
use super::span::Span;
use crate::only_objects;

/// How deliveries to a subscriber are made. The settings of the deployment apply to every field that is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Policy))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct PolicyFields {
    /// The number of attempts in one round of delivering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The delays between attempts; the last one repeats. Excludes `exponential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Span>>,
    /// Delays that grow by a factor. Excludes `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialFields>,
    /// The greatest random part of a delay, in percent of the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u8>,
    /// The time limit of one attempt, from resolving the host to the end of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The number of requests in flight at once, counted over the whole deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// A limit on requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitFields>,
    /// Whether to make one delivery at a time, in the order of dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// The HTTP method of the requests. Default: `POST`. A `GET` has no body, and its signatures cover an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<RequestMethod>,
    /// How bodies of more than 1 KiB are compressed; the signatures cover the compressed bytes. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

/// Delays between attempts that grow by a factor, up to a longest delay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Exponential))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct ExponentialFields {
    /// The first delay.
    pub base: Span,
    /// The factor between successive delays.
    pub factor: f64,
    /// The longest delay, at least `base`.
    pub cap: Span,
}

/// A limit on requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RateLimit))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct RateLimitFields {
    /// Requests per second; may be a fraction. The least is one per hour.
    pub per_second: f64,
    /// The number of requests that may start at once after an idle period. The default is a tenth of `per_second`, rounded
    /// up, so that a request that starts late does not lower the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

only_objects!(PolicyFields, ExponentialFields, RateLimitFields);
