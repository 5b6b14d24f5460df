//! Replays: jobs that deliver again, or cancel, everything that matches a filter.

use postrider_core::replay::{ReplayFailure, ReplayMode, ReplayStatus};
use postrider_core::{
    DeadReason, DeliveryStatus, ErrorKind, EventId, EventPattern, ReplayId, SubscriberId, SubscriberRef, id,
    only_objects,
};
use serde::{Deserialize, Serialize};

use crate::delivery::ResponseCode;
use crate::{Cursor, Limit, List, Moment};

/// What to deliver again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(examples(
        json!({"filter": {"event": "order.created", "since": "2026-01-01T00:00:00Z"}, "mode": "dead", "dry_run": true}),
        json!({"filter": {"subscriber_id": "sub_01h455vb4pex5vsknk084sn02q", "since": 1_700_000_000}, "mode": "missed"}),
        json!({"filter": {"status": "succeeded", "until": "2026-01-01T00:00:00Z"}, "mode": "all"})
    ))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ReplayRequest {
    /// Which deliveries, or events. `{}` selects all of the tenant.
    #[cfg_attr(feature = "schema", schema(value_type = ReplayFilter))]
    pub filter: ReplayFilter,
    /// `dead`: dead letters. `all`: every delivery that has ended. `missed`: events that an active subscriber matches now
    /// and has no delivery of, because it was created or activated later or did not match then. `cancel` is started by
    /// `POST /v1/deliveries/cancel`.
    pub mode: ReplayMode,
    /// Only count.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub dry_run: bool,
}

/// Which pending deliveries to cancel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(examples(
        json!({"filter": {"subscriber_id": "sub_01h455vb4pex5vsknk084sn02q", "until": "2026-01-01T00:00:00Z"}, "dry_run": true}),
        json!({"filter": {"event": "order.*", "min_attempts": 3}})
    ))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct CancelRequest {
    /// Which deliveries. `{}` selects all pending ones of the tenant.
    #[cfg_attr(feature = "schema", schema(value_type = ReplayFilter))]
    pub filter: ReplayFilter,
    /// Only count.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub dry_run: bool,
}

/// Selects deliveries by the names that `GET /v1/deliveries` takes, or events. All fields that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct ReplayFilter {
    /// Only deliveries to this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only deliveries of events of this type, or of types that match this pattern, such as `order.*`.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "order.created"))]
    pub event_type: Option<EventPattern>,
    /// Only deliveries of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: Option<EventId>,
    /// Only deliveries with this status; for the mode `all`, and `pending` for `cancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Only deliveries whose last response had this HTTP status, 100 to 599, or one of this class, `1xx` to `5xx`; not for
    /// the mode `missed`.
    #[serde(default, with = "response_code", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<ResponseCodeInput>))]
    pub response_code: Option<ResponseCode>,
    /// Only deliveries whose last attempt failed for this reason; not for the mode `missed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
    /// Only deliveries that are dead for this reason; not for the mode `missed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// Only deliveries with at least so many attempts; not for the mode `missed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_attempts: Option<u32>,
    /// Only deliveries with at most so many attempts; not for the mode `missed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Only deliveries of events that were dispatched at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<MomentInput>))]
    pub since: Option<Moment>,
    /// Only deliveries of events that were dispatched before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<MomentInput>))]
    pub until: Option<Moment>,
}

only_objects!(ReplayFilter);

/// An HTTP status, or a class of them, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an HTTP status from 100 to 599, or a class from `1xx` to `5xx`")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ResponseCodeInput {
    /// One status.
    Code(u16),
    /// One status or a class, as `GET /v1/deliveries` takes them.
    Text(String),
}

mod response_code {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{ResponseCode, ResponseCodeInput};

    #[allow(clippy::ref_option, reason = "serde passes the field")]
    pub(super) fn serialize<S: Serializer>(code: &Option<ResponseCode>, to: S) -> Result<S::Ok, S::Error> {
        let input = code.as_ref().map(|code| {
            let codes = code.codes();
            if codes.start() == codes.end() {
                ResponseCodeInput::Code(*codes.start())
            } else {
                ResponseCodeInput::Text(code.clone().into())
            }
        });
        input.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ResponseCode>, D::Error> {
        let code = match Option::<ResponseCodeInput>::deserialize(from)? {
            None => return Ok(None),
            Some(ResponseCodeInput::Code(code)) => ResponseCode::new(code),
            Some(ResponseCodeInput::Text(text)) => text.try_into(),
        };
        code.map(Some).map_err(D::Error::custom)
    }
}

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Replay))]
pub struct ReplayView {
    /// The replay's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "rpl_01h455vb4pex5vsknk084sn02q"))]
    pub id: ReplayId,
    /// What it does: `dead`, `all` and `missed` deliver again, `cancel` cancels.
    pub mode: ReplayMode,
    /// What it selects.
    pub filter: ReplayFilter,
    /// How far it has come: `collecting` (its set is being collected), `running`, `paused`, `done`, `cancelled`.
    pub status: ReplayStatus,
    /// The size of its set; of what is collected so far, until `frozen`.
    pub total: u64,
    /// Whether all of its set is collected. `total` does not change any more then.
    pub frozen: bool,
    /// Whether more matched than the 1,000,000 oldest, which are its set.
    pub truncated: bool,
    /// How many deliveries it has made pending, or cancelled.
    pub done: u64,
    /// How many it has passed over. With `done` this is `total` in the end.
    pub failed: u64,
    /// Why, and how many of them.
    pub failures: Vec<ReplayFailureView>,
    /// When it was started. What ended (for `cancel` and `missed`: was dispatched) later does not belong to its set.
    pub created_at: Moment,
    /// When it was done or cancelled; null before.
    #[cfg_attr(feature = "schema", schema(required))]
    pub ended_at: Option<Moment>,
}

/// How many of a replay failed for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ReplayFailures))]
pub struct ReplayFailureView {
    /// `payload_erased` and `payload_expired`: nothing is left to send. `removed`: the delivery or its event is gone.
    /// `inactive`: the subscriber is not active, or was deleted. `changed`: it was delivered, requeued or cancelled since.
    pub reason: ReplayFailure,
    /// How many.
    pub count: u64,
}

/// A page of replays.
pub type ReplayList = List<ReplayView>;

/// Selects replays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ReplaysQuery {
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Replay>>,
}

/// What a replay would deliver, or cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ReplayEstimate))]
pub struct ReplayEstimateView {
    /// How many deliveries, as far as they were counted.
    pub total: u64,
    /// Whether all of them were counted. Otherwise there are, or may be, more than one request has time for, or than a
    /// replay may have.
    pub complete: bool,
    /// How many of them have succeeded already.
    pub succeeded: u64,
    /// When the oldest of their events was dispatched; null if there is none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub oldest: Option<Moment>,
    /// When the newest of their events was dispatched; null if there is none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub newest: Option<Moment>,
    /// How many seconds they take at least, under the rate limits of these subscribers' policies; 0 for
    /// `cancel`.
    pub seconds: u64,
    /// The number of subscribers.
    pub subscribers: u64,
    /// The subscribers with the most deliveries; up to 1000.
    pub by_subscriber: Vec<ReplayEstimateOfView>,
}

/// What a replay would deliver to one subscriber, or cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ReplayEstimateOf))]
pub struct ReplayEstimateOfView {
    /// The subscriber's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// How many deliveries.
    pub total: u64,
    /// How many of them have succeeded already.
    pub succeeded: u64,
    /// How many seconds they take at least, under the rate limit of its policy; null if it has none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub seconds: Option<u64>,
}

#[cfg(feature = "schema")]
use crate::moment::MomentInput;
