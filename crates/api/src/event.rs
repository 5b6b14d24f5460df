//! Events: dispatched one by one or in batches, and read back.

use std::collections::BTreeMap;

use postrider_core::{AgentId, Channels, EventId, EventType, JobId, SubscriberId, id, only_objects};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::delivery::DeliveryView;
use crate::{Cursor, Limit, List, Moment, Problem};

/// An event to dispatch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct EventRequest {
    /// The event type: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = String, required = true, pattern = "^[A-Za-z0-9_.-]{1,128}$",
            example = "order.created"
        )
    )]
    pub event_type: Option<String>,
    /// The content: an object or an array, which every subscriber receives byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Data, required = true))]
    pub data: Option<Box<RawValue>>,
    /// The emitter of the event: 1 to 128 printable ASCII characters. Default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 128, example = "my-agent"))]
    pub agent_id: Option<String>,
    /// The idempotency key: 1 to 255 printable ASCII characters of your choice. Requests with the same key dispatch the
    /// event once, for 24 hours unless the operator has set another time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 255, example = "order-1-created"))]
    pub id: Option<String>,
    /// Channels: the event goes to the subscribers that share one of them, and to those without channels. Default: none, and
    /// only subscribers without channels receive the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 10, example = json!(["customer:42"]))
    )]
    pub channels: Option<Vec<String>>,
    /// Texts by name, up to 4096 bytes in all, which are shown with the event. Subscribers do not get them, and they stay when
    /// the data is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(example = json!({"source": "import"})))]
    pub metadata: Option<BTreeMap<String, String>>,
}

only_objects!(EventRequest);

impl EventRequest {
    /// An event without an idempotency key, from the server's default agent.
    ///
    /// # Errors
    /// Fails if `data` has no JSON form.
    pub fn new(event_type: impl Into<String>, data: &impl Serialize) -> Result<Self, serde_json::Error> {
        let data = serde_json::value::to_raw_value(data)?;
        Ok(Self { event_type: Some(event_type.into()), data: Some(data), ..Self::default() })
    }
}

/// Events to dispatch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct BatchRequest {
    /// 1 to 1000 events.
    #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 1000))]
    pub events: Vec<EventRequest>,
}

/// Whether all jobs of an event have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FanOut {
    /// They have.
    Complete,
    /// More are being made.
    Continuing,
}

/// The result of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Dispatched))]
pub struct DispatchedView {
    /// The event's id: the `webhook-id` of all its deliveries.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub id: EventId,
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The emitter of the event.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "default"))]
    pub agent_id: AgentId,
    /// The time of the dispatch, in Unix seconds.
    #[cfg_attr(feature = "schema", schema(example = 1_700_000_000))]
    pub timestamp: i64,
    /// The number of subscribers that receive the event.
    pub subscribers_found: usize,
    /// The number of jobs that deliver it and have been made so far.
    pub jobs_created: usize,
    /// Whether all its jobs have been made. For an event with more than 100 subscribers they are made after the answer.
    pub fan_out: FanOut,
    /// The ids of these jobs; empty if there are more than 100 subscribers.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub job_ids: Vec<JobId>,
    /// The ids of these subscribers, in the order of the jobs; empty if there are more than 100.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub subscriber_ids: Vec<SubscriberId>,
    /// Whether an earlier request with the same `id` dispatched the event. This request then changed nothing.
    pub duplicate: bool,
    /// The `id` that the caller gave the event; null if it gave none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub idempotency_key: Option<String>,
}

/// The results of a batch, in the order of its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Batch))]
pub struct BatchView {
    /// For each event, the body that `POST /v1/events` would have answered.
    pub results: Vec<BatchResult>,
}

/// The result of one event of a batch: its ids, or a problem with its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum BatchResult {
    /// The event was dispatched.
    Dispatched(DispatchedView),
    /// The event was refused; the problem names what is wrong with it.
    Problem(Problem),
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Event))]
pub struct EventView {
    /// The event's id: the `webhook-id` of all its deliveries.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub id: EventId,
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The emitter of the event.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "default"))]
    pub agent_id: AgentId,
    /// The time of the dispatch, in Unix seconds.
    #[cfg_attr(feature = "schema", schema(example = 1_700_000_000))]
    pub timestamp: i64,
    /// The time of the dispatch, with milliseconds.
    pub created_at: Moment,
    /// The number of subscribers that receive the event.
    pub subscribers_found: u32,
    /// The number of jobs that deliver it and have been made so far.
    pub jobs_created: u32,
    /// Whether all its jobs have been made.
    pub fan_out: FanOut,
    /// The channels of the event; null if it has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, required, example = json!(["customer:42"])))]
    pub channels: Option<Channels>,
    /// Texts by name, which the application noted.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = json!({"source": "import"})))]
    pub metadata: BTreeMap<String, String>,
    /// The `id` that the caller gave the event; null if it gave none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub idempotency_key: Option<String>,
}

/// Why an event's data, or the headers and the body of a response, are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PayloadGone {
    /// They were erased on request.
    Erased,
    /// They were older than payloads are kept.
    Expired,
    /// The key lacks the scope `payloads:read`.
    Hidden,
}

/// An event with its data and its deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventDetail {
    /// The event.
    #[serde(flatten)]
    pub event: EventView,
    /// The data, byte for byte as given; null if it is not shown, see `payload`.
    #[cfg_attr(feature = "schema", schema(value_type = Option<Data>, required = true))]
    pub data: Box<RawValue>,
    /// Why the data is not shown; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadGone>,
    /// The deliveries of the event, newest first; at most 250.
    pub deliveries: Vec<DeliveryView>,
    /// The `cursor` of `GET /v1/deliveries?event_id=…` for the remaining deliveries; null if all are here.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deliveries_next_cursor: Option<String>,
}

/// The body of a delivery, which Postrider sends to a subscriber. Its bytes are fixed when the event is dispatched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryBody {
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The time of the dispatch, in Unix seconds.
    #[cfg_attr(feature = "schema", schema(example = 1_700_000_000))]
    pub timestamp: i64,
    /// The emitter of the event.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "default"))]
    pub agent_id: AgentId,
    /// The data, byte for byte as given.
    #[cfg_attr(feature = "schema", schema(value_type = Data))]
    pub data: Box<RawValue>,
}

/// A page of events.
pub type EventList = List<EventView>;

/// Selects events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EventsQuery {
    /// Only events of this type.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventType>,
    /// Only the event to which the caller gave this `id`, for as long as idempotency keys are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, min_length = 1, max_length = 255))]
    pub idempotency_key: Option<String>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Event>>,
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{
        AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type,
    };
    use utoipa::{PartialSchema, ToSchema};

    /// The data of an event: any object or any array.
    #[derive(Debug)]
    pub(super) enum Data {}

    impl PartialSchema for Data {
        fn schema() -> RefOr<Schema> {
            let object = ObjectBuilder::new()
                .schema_type(Type::Object)
                .additional_properties(Some(AdditionalProperties::FreeForm(true)));
            let array = ArrayBuilder::new();
            OneOfBuilder::new()
                .item(object)
                .item(array)
                .description(Some("The data of an event: any object or any array."))
                .examples([serde_json::json!({"order": 1}), serde_json::json!([1, "two"])])
                .into()
        }
    }

    impl ToSchema for Data {
        fn name() -> Cow<'static, str> {
            "Data".into()
        }
    }
}

#[cfg(feature = "schema")]
use schema::Data;
