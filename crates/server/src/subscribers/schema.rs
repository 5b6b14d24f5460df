//! How a policy is described. [`PolicyFields`](postrider_core::subscriber::PolicyFields) is what is
//! read and written; a test holds the two together.
#![allow(dead_code, reason = "these types describe; nothing is made of them")]

use utoipa::ToSchema;

/// How deliveries to one subscriber are made. What it does not say, the deployment's settings say.
#[derive(ToSchema)]
#[schema(as = Policy)]
pub(super) struct PolicySchema {
    /// Attempts of one round.
    #[schema(minimum = 1, maximum = 30)]
    max_attempts: Option<u32>,
    /// The delays between attempts, as seconds or as text such as `"1m 30s"`; past its end the last one
    /// repeats. Not together with `exponential`.
    #[schema(min_items = 1, max_items = 30, example = json!(["1s", "30s", 600]))]
    schedule: Option<Vec<SpanSchema>>,
    /// Delays that grow by a factor. Not together with `schedule`.
    exponential: Option<ExponentialSchema>,
    /// How much is added to a delay at random, in percent.
    #[schema(minimum = 0, maximum = 50)]
    jitter_percent: Option<u8>,
    /// How long an attempt may take in all: 1 s to 60 s.
    timeout: Option<SpanSchema>,
    /// Requests in flight at once over the whole deployment.
    #[schema(minimum = 1, maximum = 10000)]
    concurrency: Option<u32>,
    /// Requests a second.
    rate_limit: Option<RateLimitSchema>,
    /// One delivery at a time, in the order of dispatch.
    ordered: Option<bool>,
}

/// Delays that grow by a factor.
#[derive(ToSchema)]
#[schema(as = Exponential)]
pub(super) struct ExponentialSchema {
    /// The first delay, at least 100 ms.
    base: SpanSchema,
    /// What each delay is multiplied with to make the next.
    #[schema(minimum = 1, maximum = 10)]
    factor: f64,
    /// The longest delay, at most 24 h.
    cap: SpanSchema,
}

/// A rate.
#[derive(ToSchema)]
#[schema(as = RateLimit)]
pub(super) struct RateLimitSchema {
    /// Requests a second; may be a fraction.
    #[schema(exclusive_minimum = 0, maximum = 10000)]
    per_second: f64,
    /// How many may start at once after a pause; if not given a tenth of a second's, at least 1.
    #[schema(minimum = 1, maximum = 10000)]
    burst: Option<u32>,
}

/// A span of time: seconds, or text such as `"1m 30s"`.
#[derive(ToSchema)]
#[schema(as = Span)]
pub(super) enum SpanSchema {
    #[schema(title = "seconds")]
    Seconds(f64),
    #[schema(title = "text")]
    Text(String),
}
