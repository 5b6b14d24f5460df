//! The queue and its workers: who is running, what is waiting, for how long, and why.

use postrider_core::{SubscriberId, SubscriberRef, TenantId};
use serde::{Deserialize, Serialize};

use crate::stats::QueueView;
use crate::{Limit, List, Moment};

/// A worker that runs, or that has fallen silent within the last minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Worker))]
pub struct WorkerView {
    /// Its id, a UUID that is made when it starts.
    #[cfg_attr(feature = "schema", schema(example = "01890a5d-ac96-774b-bcce-b302099a8057"))]
    pub id: String,
    /// The version of its program.
    #[cfg_attr(feature = "schema", schema(example = "1.0.0"))]
    pub version: String,
    /// The name of its machine.
    #[cfg_attr(feature = "schema", schema(example = "worker-3"))]
    pub host: String,
    /// When it started.
    pub since: Moment,
    /// When it last said that it runs: every few seconds, on SQLite every ten.
    pub last_seen_at: Moment,
    /// How many jobs it had claimed and not finished then.
    pub in_flight: u32,
    /// It has not said so again in time: it was killed, hangs, or cannot reach the queue.
    pub silent: bool,
}

/// All workers, the oldest first, a thousand at most.
pub type WorkerList = List<WorkerView>;

/// The queue of the whole deployment, all tenants together. Counts of long queues may be estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = QueueStatus))]
pub struct QueueStatusView {
    /// The jobs in each state.
    #[serde(flatten)]
    pub counts: QueueView,
    /// How long the oldest job has waited that only lacks a worker, in seconds; null if there is none. The jobs of lanes that
    /// are paused, or have reached their limits, do not count.
    #[cfg_attr(feature = "schema", schema(required))]
    pub longest_wait_seconds: Option<f64>,
}

/// A subscriber's lane in which deliveries wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Lane))]
pub struct LaneView {
    /// The subscriber.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// Its tenant.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "acme"))]
    pub tenant: TenantId,
    /// The deliveries that are due and that no worker has claimed.
    pub depth: u64,
    /// The deliveries that are due later, such as retries.
    pub scheduled: u64,
    /// Whether there are more than `depth` or `scheduled` says: a request counts a bounded number, at least 500 of each lane.
    pub more: bool,
    /// The deliveries that workers have claimed.
    pub running: u64,
    /// How long the first delivery of the lane has been due, in seconds.
    pub oldest_seconds: f64,
    /// How many requests the subscriber's policy allows at once; null if it says nothing.
    #[cfg_attr(feature = "schema", schema(required))]
    pub concurrency: Option<u32>,
    /// Whether it is delivered to in order, one at a time.
    pub ordered: bool,
    /// The subscriber's rate limit; null if it has none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub rate_limit: Option<LaneRateView>,
    /// Why nothing is delivered, or one delivery at a time; null if only the limits hold deliveries back.
    #[cfg_attr(feature = "schema", schema(required))]
    pub pause: Option<LanePauseView>,
}

/// How fast the deliveries of a lane may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = LaneRate))]
pub struct LaneRateView {
    /// Requests per second.
    pub per_second: f64,
    /// The number of requests that may start at once after an idle period.
    pub burst: u32,
}

/// A page of lanes.
pub type LaneList = List<LaneView>;

/// Why nothing is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = LanePause))]
pub struct LanePauseView {
    /// The reason.
    pub reason: LanePauseReason,
    /// When the pause ends by itself; null if it does not.
    #[cfg_attr(feature = "schema", schema(required))]
    pub until: Option<Moment>,
}

/// Why nothing is delivered: the subscriber is `inactive` and its deliveries are being ended; somebody paused it (`subscriber`);
/// its tenant is not active (`tenant`); its circuit breaker is open (`breaker`), or lets one attempt through at a time
/// (`probing`); or it is delivered to in order, and its first delivery awaits a retry (`retry`). If several apply, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LanePauseReason {
    /// The subscriber is inactive or deleted.
    Inactive,
    /// The subscriber is paused.
    Subscriber,
    /// The tenant is not active.
    Tenant,
    /// The circuit breaker is open.
    Breaker,
    /// The circuit breaker lets one attempt through at a time.
    Probing,
    /// The first delivery of an ordered subscriber awaits a retry.
    Retry,
}

/// Which lanes come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LaneOrder {
    /// Those in which most deliveries wait.
    #[default]
    Depth,
    /// Those whose first delivery has waited longest.
    Age,
}

/// Selects lanes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct LanesQuery {
    /// Only the lane of this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Which lanes come first. Default: `depth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(inline))]
    pub order: Option<LaneOrder>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<LaneCursor>,
}

/// Where a page of lanes starts: the `next_cursor` of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneCursor {
    /// The lane after which the queue looks for others.
    pub after: SubscriberId,
    /// How many of those were on earlier pages.
    pub skip: u32,
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is the `next_cursor` of the page before, unchanged")]
pub struct LaneCursorError;

impl TryFrom<String> for LaneCursor {
    type Error = LaneCursorError;

    fn try_from(text: String) -> Result<Self, LaneCursorError> {
        let (after, skip) = text.split_once('.').ok_or(LaneCursorError)?;
        let after = after.parse().map_err(|_| LaneCursorError)?;
        Ok(Self { after, skip: skip.parse().map_err(|_| LaneCursorError)? })
    }
}

impl From<LaneCursor> for String {
    fn from(LaneCursor { after, skip }: LaneCursor) -> Self {
        format!("{after}.{skip}")
    }
}
