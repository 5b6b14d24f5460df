//! Which subscribers got an event, and why others did not.

use postrider_core::{DeliveryId, SubscriberId, SubscriberRef, id};
use serde::{Deserialize, Serialize};

use crate::{Cursor, Limit, List};

/// Whether an event matched a subscriber, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ExplainedSubscriber))]
pub struct ExplainedView {
    /// The subscriber's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// The subscriber's present URL.
    pub url: String,
    /// Whether the event matched it.
    pub matched: bool,
    /// Why it matched or did not.
    pub reason: ExplainReason,
    /// What the reason describes.
    pub as_of: Explained,
    /// The delivery of the event to it. Null if there is none: the event did not match, its fan-out continues, or the delivery
    /// was removed.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, required, example = "dlv_01h455vb4pex5vsknk084sn02q"))]
    pub delivery_id: Option<DeliveryId>,
}

/// A page of subscribers.
pub type ExplainList = List<ExplainedView>;

/// Why a subscriber got an event (`matched`), or did not: it was `inactive`, none of its patterns matched (`pattern`), it shared
/// no `channel` with the event, its `filter` was false, it was `created_later`, or it was `not_asked`, because the event is a
/// test event to one subscriber. If several apply, it is the first of `not_asked`, `created_later`, `inactive`, `pattern`,
/// `channel` and `filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExplainReason {
    /// The event matched it.
    Matched,
    /// It was not active.
    Inactive,
    /// None of its patterns matched the event type.
    Pattern,
    /// It shared no channel with the event.
    Channel,
    /// Its filter was false.
    Filter,
    /// It did not exist yet.
    CreatedLater,
    /// The event is a test event to one subscriber.
    NotAsked,
}

/// What a reason describes: the subscriber as it was when the event was dispatched (`event`), or, where that is not known, as it
/// is at present (`now`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ExplainedAsOf))]
#[serde(rename_all = "snake_case")]
pub enum Explained {
    /// The time of the event.
    Event,
    /// The present.
    Now,
}

/// Selects the subscribers about which an event is explained.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ExplainQuery {
    /// Only this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Subscriber>>,
}
