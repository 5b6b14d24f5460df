//! Statistics: counts and latencies.

use postrider_core::{EventType, SubscriberRef};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// Counts and latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Stats))]
pub struct StatsView {
    /// The tenant's subscribers.
    pub subscribers: SubscriberStatsView,
    /// The selected deliveries.
    pub deliveries: DeliveryStatsView,
    /// The time from dispatch to the first attempt.
    pub latency_ms: PercentilesView,
    /// The queue; null for the key of a tenant.
    #[cfg_attr(feature = "schema", schema(required))]
    pub queue: Option<QueueView>,
}

/// The number of subscribers of the tenant. Filters do not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SubscriberStats))]
pub struct SubscriberStatsView {
    /// All subscribers.
    pub total: u64,
    /// Active subscribers.
    pub active: u64,
}

/// The number of deliveries by status.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DeliveryStats))]
pub struct DeliveryStatsView {
    /// All deliveries.
    pub total: u64,
    /// Deliveries with attempts to come.
    pub pending: u64,
    /// Deliveries whose receiver answered 2xx.
    pub succeeded: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that ended because they were no longer wanted.
    pub cancelled: u64,
    /// The mean number of attempts of deliveries that have ended; null if none has.
    #[cfg_attr(feature = "schema", schema(required))]
    pub avg_attempts: Option<f64>,
    /// Succeeded deliveries as a share, 0 to 1, of those that succeeded or died; null if there are none.
    #[cfg_attr(feature = "schema", schema(required, minimum = 0, maximum = 1))]
    pub success_rate: Option<f64>,
}

/// Percentiles in milliseconds; null if nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Percentiles))]
pub struct PercentilesView {
    /// The median.
    #[cfg_attr(feature = "schema", schema(required))]
    pub p50: Option<u64>,
    /// The 95th percentile.
    #[cfg_attr(feature = "schema", schema(required))]
    pub p95: Option<u64>,
    /// The 99th percentile.
    #[cfg_attr(feature = "schema", schema(required))]
    pub p99: Option<u64>,
}

/// The queue of the whole deployment, all tenants together. Filters do not apply. Counts of long queues may be estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Queue))]
pub struct QueueView {
    /// Jobs that a worker may claim.
    pub ready: u64,
    /// Jobs that are due later.
    pub scheduled: u64,
    /// Jobs that wait in paused lanes.
    pub held: u64,
    /// Jobs that a worker has claimed.
    pub running: u64,
    /// How long the oldest ready job at the head of a lane has waited, in seconds; 0 if there is none.
    pub oldest_ready_seconds: f64,
}

/// Selects the deliveries to count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct StatsQuery {
    /// Only deliveries to this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only deliveries of events of this type.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventType>,
    /// Only deliveries created in the minute of this time, or later. A time more than 2 days ago stands for its whole hour,
    /// and one more than 60 days ago for its whole day (in UTC). With `subscriber_id`, that is the day for times more than
    /// 14 days ago; with both `subscriber_id` and `event` always. For a time more than 400 days ago all deliveries count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub since: Option<Moment>,
}

#[cfg(feature = "schema")]
use crate::moment::MomentInput;
