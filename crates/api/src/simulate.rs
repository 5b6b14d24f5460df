//! Simulating deliveries: what would be sent, and why.

use postrider_core::{DeadReason, DeliveryStatus, ErrorKind, EventId, SubscriberId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attempt::HeaderView;
use crate::event::EventRequest;
use crate::subscriber::SubscriberRequest;

/// An event and a subscriber to simulate.
// No Debug: it may hold a secret.
#[derive(Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(example = json!({
        "event": {"event": "order.created", "data": {"order": 1}},
        "subscriber": {"url": "https://example.com/hook", "events": ["order.*"]},
        "script": [503, {"delay": "2s", "status": 500}, "reset", 200],
    }))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct SimulateRequest {
    /// The event. Give this, or `event_id`, or neither for the subscriber's latest events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventRequest>,
    /// The id of a stored event. Needs the scope `payloads:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: Option<String>,
    /// The id or the uid of a subscriber. Give this or `subscriber`, or neither to see what becomes of the event at all
    /// subscribers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: Option<String>,
    /// A subscriber that need not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<SubscriberRequest>,
    /// How the receiver answers, as in `POST /v1/sandboxes`. Without it every attempt fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Value, required = false, example = json!([503, "reset", 200])))]
    pub script: Option<Value>,
}

/// What would become of each event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SimulationList))]
pub struct SimulationList {
    /// One simulation for each event, or one for each subscriber if the request names none: those that match first.
    pub data: Vec<SimulationView>,
    /// Whether there are more subscribers than are shown: the newest 50.
    #[serde(default)]
    pub truncated: bool,
}

/// What would become of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Simulation))]
pub struct SimulationView {
    /// The event's id; a new one if it is not stored.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: EventId,
    /// The subscriber's id; null if it does not exist.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberId>,
    /// Whether the subscriber would receive the event.
    pub matched: bool,
    /// Why it would, or would not.
    pub reason: MatchReason,
    /// What the subscriber's filter says of the event; null if it has none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub filter: Option<FilterResultView>,
    /// What the subscriber's transform and plugin make of the data; null if it has neither.
    #[cfg_attr(feature = "schema", schema(required))]
    pub transform: Option<TransformResultView>,
    /// The request as it would be sent now, also if the event does not match; null if the transform fails.
    #[cfg_attr(feature = "schema", schema(required))]
    pub request: Option<SimulatedRequestView>,
    /// When attempts would start, counted from the first one, under the script; without one, if all failed. Random parts of
    /// delays are left out, and so are pauses by the circuit breaker.
    pub attempts: Vec<SimulatedAttemptView>,
    /// How the delivery would end under the script; null without one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub end: Option<SimulatedEndView>,
}

/// What a filter says of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = FilterResult))]
pub struct FilterResultView {
    /// The result; null if the filter failed, in which case the event is delivered.
    #[cfg_attr(feature = "schema", schema(required))]
    pub result: Option<bool>,
    /// Why the filter failed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub error: Option<String>,
}

/// What a transform and a plugin make of an event's data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TransformResult))]
pub struct TransformResultView {
    /// The version of the transform, as attempts note it; null if it failed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub version: Option<String>,
    /// The data in JSON text; null if the transform failed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub data: Option<String>,
    /// Why it failed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub error: Option<String>,
}

/// Why a subscriber receives an event (`matched`), or does not: it is `inactive`, no `pattern` matches, it shares no
/// `channel` with the event, or its `filter` is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MatchReason {
    /// It receives the event.
    Matched,
    /// It is not active.
    Inactive,
    /// None of its patterns matches the event type.
    Pattern,
    /// It shares no channel with the event.
    Channel,
    /// Its filter is false.
    Filter,
}

/// A request that was not sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SimulatedRequest))]
pub struct SimulatedRequestView {
    /// The HTTP method.
    #[cfg_attr(feature = "schema", schema(example = "POST"))]
    pub method: String,
    /// The URL. The values of its query are masked.
    pub url: String,
    /// The headers, without `Host` and `Content-Length`. The subscriber's own headers and its `auth` are masked, and so are the signatures of an
    /// existing subscriber without the scope `secrets:read`. Those of one that does not exist are made with its secret, or with one
    /// that was generated for this request.
    pub headers: Vec<HeaderView>,
    /// The body, before it is compressed if `content-encoding` is `gzip`.
    pub body: String,
    /// The SHA-256 of the body as it would be sent, in hexadecimal.
    pub body_sha256: String,
}

/// An attempt that would be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SimulatedAttempt))]
pub struct SimulatedAttemptView {
    /// Its number, from 1.
    pub number: u32,
    /// How many seconds after the first one it would start, at the earliest.
    pub after_seconds: f64,
    /// The step of the script that answers it. Absent without a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Value, required = false, example = json!(503)))]
    pub answer: Option<Value>,
    /// Why it would fail. Absent if it would succeed, and without a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = ErrorKind, required = false))]
    pub error: Option<ErrorKind>,
}

/// How a delivery would end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SimulatedEnd))]
pub struct SimulatedEndView {
    /// Its status: `succeeded` or `dead`.
    pub status: DeliveryStatus,
    /// Why it would be dead; null if it would succeed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub dead_reason: Option<DeadReason>,
    /// How many seconds after the first attempt began.
    pub after_seconds: f64,
}
