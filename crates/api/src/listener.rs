//! Listeners: subscribers whose deliveries are handed to a program on another machine.

use postrider_core::{ErrorKind, EventId, EventType, HandoverId, ListenerId, SubscriberId};
use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::attempt::HeaderView;
use crate::secret::SecretView;

/// A listener to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(examples(json!({}), json!({"events": ["order.*"], "description": "on my laptop"})))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ListenerRequest {
    /// The patterns of the event types that it receives, up to 100. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = false, min_items = 1, max_items = 100, example = json!(["order.*"])))]
    pub events: Option<Vec<String>>,
    /// A description of its subscriber: up to 1000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = false, max_length = 1000, example = "on my laptop"))]
    pub description: Option<String>,
}

/// A new listener.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Listener))]
pub struct ListenerView {
    /// The listener's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "lsn_01h455vb4pex5vsknk084sn02q"))]
    pub id: ListenerId,
    /// Its subscriber, which is deleted when the listener ends.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// When it ends unless a stream of its requests is open.
    pub lease_until: Moment,
    /// The secret that signs its requests.
    #[serde(flatten)]
    pub secret: SecretView,
}

/// A request for a listener, as `data` of a server-sent event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ListenerDelivery))]
pub struct ListenerDeliveryView {
    /// The id under which it is answered.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "hnd_01h455vb4pex5vsknk084sn02q"))]
    pub id: HandoverId,
    /// The HTTP method.
    #[cfg_attr(feature = "schema", schema(example = "POST"))]
    pub method: String,
    /// All headers, without `Host` and `Content-Length`.
    pub headers: Vec<HeaderView>,
    /// The body in base64.
    pub body_base64: String,
    /// The event's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: EventId,
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The number of the attempt.
    pub attempt: u32,
    /// How many milliseconds the attempt waits for an answer.
    pub timeout_ms: u64,
}

/// The answer to a request: a response, or why there is none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(example = json!({
        "id": "hnd_01h455vb4pex5vsknk084sn02q", "status": 200, "headers": [{"name": "content-type", "value": "text/plain"}],
        "body_base64": "b2s="
    }))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ListenerAnswerRequest {
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = true, example = "hnd_01h455vb4pex5vsknk084sn02q"))]
    pub id: Option<String>,
    /// The status of the response, 200 to 999. Give this or `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = u16, required = false, minimum = 200, maximum = 999))]
    pub status: Option<u16>,
    /// The headers of the response, up to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<HeaderView>, required = false, max_items = 100))]
    pub headers: Option<Vec<HeaderView>>,
    /// The beginning of the response's body in base64, up to 64 KiB before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = false, max_length = 87384, content_encoding = "base64"))]
    pub body_base64: Option<String>,
    /// Why there is no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = ErrorKind, required = false))]
    pub error: Option<ErrorKind>,
}
