//! The live tail: what happens, as server-sent events.

use postrider_core::{DeliveryId, DeliveryStatus, EventId, EventType, SubscriberId, SubscriberRef};
use serde::{Deserialize, Serialize};

use crate::attempt::AttemptView;

/// Selects what to follow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TailQuery {
    /// Only events of these types, and what happens to them: up to 10 types or patterns such as `order.*`, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(example = "order.*,user.created"))]
    pub types: Option<String>,
    /// Only attempts and deliveries to this subscriber, by its id or its uid; no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only attempts after which their delivery has this status, and deliveries that ended with it; no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
}

/// An attempt at a delivery, in the live tail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TailAttempt))]
pub struct TailAttemptView {
    /// The delivery's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "dlv_01h455vb4pex5vsknk084sn02q"))]
    pub delivery_id: DeliveryId,
    /// The event's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: EventId,
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The subscriber's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// The delivery's status after the attempt.
    pub status: DeliveryStatus,
    /// The attempt, as in the list of a delivery's attempts.
    #[serde(flatten)]
    pub attempt: AttemptView,
}

/// Why rows are missing from the live tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// More happened than 50 rows a second.
    Rate,
    /// More happened than the server reads at a time.
    Overload,
    /// `Last-Event-ID` is older than five minutes, or the database was unavailable for a while.
    Gap,
}

/// Rows that are missing from the live tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TailLeftOut))]
pub struct LeftOutView {
    /// How many; null if that is not known.
    #[cfg_attr(feature = "schema", schema(required))]
    pub count: Option<u64>,
    /// Why.
    pub reason: LeftOutReason,
}
