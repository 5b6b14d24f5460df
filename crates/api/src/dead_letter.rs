//! Dead letters: deliveries that Postrider has given up, and requeueing them.

use postrider_core::{DeadReason, DeliveryId, EventType, SubscriberRef, id};
use serde::{Deserialize, Serialize};

use crate::{Cursor, Limit, Moment};

/// Selects dead letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct DeadLettersQuery {
    /// Only dead letters of this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only dead letters of events of this type.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventType>,
    /// Only deliveries that are dead for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Only deliveries that died at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub since: Option<Moment>,
    /// Only deliveries that died before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub until: Option<Moment>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Delivery>>,
}

/// Selects the dead letters to requeue, by a filter or all of them. Of several filters, all must fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(examples(
        json!({"all": true}), json!({"ids": ["dlv_01h455vb4pex5vsknk084sn02q"]}), json!({"event": "order.created", "keep_attempts": true}),
        json!({"subscriber_id": "sub_01h455vb4pex5vsknk084sn02q", "since": "2026-01-01T00:00:00Z", "until": 1_700_000_000})
    ))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RequeueRequest {
    /// Only these deliveries; at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, max_items = 1000, example = json!(["dlv_01h455vb4pex5vsknk084sn02q"])))]
    pub ids: Option<Vec<DeliveryId>>,
    /// Only deliveries to this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only deliveries of events of this type.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "order.created"))]
    pub event_type: Option<EventType>,
    /// Only deliveries that died at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<MomentInput>))]
    pub since: Option<Moment>,
    /// Only deliveries that died before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<MomentInput>))]
    pub until: Option<Moment>,
    /// All dead letters of the tenant; without any filter.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub all: bool,
    /// Count the attempts so far: a delivery that has used them all gets one more. By default, a new round begins.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub keep_attempts: bool,
}

/// Selects the dead letters of a subscriber to deliver again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RecoverRequest {
    /// Only deliveries that died at or after this time.
    #[cfg_attr(feature = "schema", schema(value_type = MomentInput))]
    pub since: Moment,
    /// Only deliveries that died before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<MomentInput>))]
    pub until: Option<Moment>,
}

/// The result of requeueing dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Requeued))]
pub struct RequeuedView {
    /// The number of deliveries that are pending again.
    pub requeued: u64,
    /// The number of matching dead letters that stay dead because the payload of their event was erased or has expired.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub without_payload: u64,
    /// Whether there are, or may be, more dead letters than one call requeues or has time to examine. If so, call again.
    pub more: bool,
}

#[cfg(feature = "schema")]
use crate::moment::MomentInput;
