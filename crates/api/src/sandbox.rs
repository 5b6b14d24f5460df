//! Sandboxes: receivers for tests, and what they received.

use std::time::Duration;

use postrider_core::SandboxId;
use postrider_core::policy::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attempt::{BodyEncoding, HeaderView};
use crate::list::Count;
use crate::{Limit, List, Moment};

/// A sandbox to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(examples(
        json!({}),
        json!({"ttl": "10m", "script": [503, 503, {"status": 429, "retry_after": 10}, {"delay": "5s"}, "reset", "cut", "redirect", 410, 200]}),
        json!({"ttl": 600, "script": {"random": [503, "reset", 200, 200], "seed": 7}})
    ))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct SandboxRequest {
    /// How long it takes requests: 10 s to 24 h. Default: one hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Span, required = false))]
    pub ttl: Option<Span>,
    /// How it answers, one step for each request: a list, whose last step stays, or `{"random": […], "seed": 7}`. A step is an
    /// HTTP status from 200 to 599, `reset` (closes the connection without an answer), `cut` (answers 200 and closes it in the
    /// middle of the body), `redirect` (302), or an object with `status`, `retry_after` in seconds, `delay` of up to 2 min, and
    /// `ending` (`reset` or `cut`). Up to 100 steps. Default: always 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Value, required = false, example = json!([503, "reset", 200])))]
    pub script: Option<Value>,
}

/// A receiver for tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Sandbox))]
pub struct SandboxView {
    /// The sandbox's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sbx_01h455vb4pex5vsknk084sn02q"))]
    pub id: SandboxId,
    /// Its URL, for a subscriber or any other program. Anyone who knows it can send to it.
    pub url: String,
    /// How it answers.
    #[cfg_attr(feature = "schema", schema(value_type = Value))]
    pub script: Value,
    /// How many requests it has received, of 200 that it takes. It answers further ones with 410.
    pub received: u32,
    /// When it was created.
    pub created_at: Moment,
    /// When it stops taking requests. It is removed an hour later.
    pub expires_at: Moment,
}

/// All sandboxes, newest first.
pub type SandboxList = List<SandboxView>;

/// Which requests to list, what to wait for, and what to expect of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default, deny_unknown_fields)]
pub struct SandboxRequestsQuery {
    /// Wait for so many requests, up to 200, counted from the first one that the sandbox has received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<i32>, minimum = 0, maximum = 200))]
    pub count: Option<Count>,
    /// How long to wait for them, up to 25 s: seconds, or text such as `10s`. Default: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, example = "10s"))]
    pub wait: Option<Wait>,
    /// What must hold of all requests, in words separated by commas: `verified` (every signature matches), `ordered` (no
    /// request has an earlier event than the one before it) and `unique` (no event comes again after a 2xx answer). Then
    /// `count` must be reached too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(example = "verified,ordered,unique"))]
    pub expect: Option<String>,
    /// List only requests after the one with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<i32>, minimum = 0))]
    pub after: Option<Count>,
    /// The most requests to list. Default: 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wait(pub Duration);

/// The text is no time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time of up to 25s, such as `10s` or `10`")]
pub struct WaitError;

impl Wait {
    /// The longest time to wait.
    pub const MAX: Duration = Duration::from_secs(25);
}

impl TryFrom<String> for Wait {
    type Error = WaitError;

    fn try_from(text: String) -> Result<Self, WaitError> {
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => Span::deserialize(Value::String(text)).map_err(|_| WaitError)?.0,
        };
        if wait <= Self::MAX { Ok(Self(wait)) } else { Err(WaitError) }
    }
}

impl From<Wait> for String {
    fn from(Wait(wait): Wait) -> Self {
        format!("{}ms", wait.as_millis())
    }
}

/// A request that a sandbox has received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SandboxRequestReceived))]
pub struct SandboxRequestView {
    /// Its number, from 1.
    pub number: u32,
    /// When it arrived.
    pub received_at: Moment,
    /// How long after the request before it arrived, in milliseconds; null for the first one.
    #[cfg_attr(feature = "schema", schema(required))]
    pub after_ms: Option<u64>,
    /// The HTTP method.
    #[cfg_attr(feature = "schema", schema(example = "POST"))]
    pub method: String,
    /// Its headers, with names in lower case; null without the scope `payloads:read`.
    #[cfg_attr(feature = "schema", schema(required))]
    pub headers: Option<Vec<HeaderView>>,
    /// The beginning of its body, up to 64 KiB; null without the scope `payloads:read`.
    #[cfg_attr(feature = "schema", schema(required))]
    pub body: Option<String>,
    /// How `body` is encoded.
    pub body_encoding: BodyEncoding,
    /// The bytes of the whole body.
    pub body_size: u64,
    /// The type of the event, as the header `x-event-type` names it.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(required, example = "order.created"))]
    pub event_type: Option<String>,
    /// The event's id, as the header `webhook-id` gives it. It is the same in every attempt.
    #[cfg_attr(feature = "schema", schema(required, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub webhook_id: Option<String>,
    /// Whether it has signatures and all of them match.
    pub verified: bool,
    /// Its signatures.
    pub signatures: Vec<SandboxSignatureView>,
    /// The step of the script that answered it.
    #[cfg_attr(feature = "schema", schema(value_type = Value, example = json!(503)))]
    pub answer: Value,
}

/// A signature of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SandboxSignature))]
pub struct SandboxSignatureView {
    /// The header that holds it, in lower case.
    #[cfg_attr(feature = "schema", schema(example = "webhook-signature"))]
    pub header: String,
    /// Whether it was made over this request with a secret of the subscriber that sent it. Of a request from another program,
    /// with a secret of a subscriber at this URL.
    pub valid: bool,
    /// A word for why it was not: `missing`, `no_secret`, `secret_or_body`, `body_changed`, `base64_not_decoded`,
    /// `secret_prefix`, `body_alone`, `hexadecimal`, `header` or `clock`.
    #[cfg_attr(feature = "schema", schema(required))]
    pub reason: Option<String>,
    /// What is wrong and what to do, for people.
    #[cfg_attr(feature = "schema", schema(required))]
    pub detail: Option<String>,
}

/// Requests that a sandbox has received, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SandboxRequestsReceived))]
pub struct SandboxRequestList {
    /// The requests.
    pub data: Vec<SandboxRequestView>,
    /// How many the sandbox has received in all.
    pub received: u32,
}
