//! Statistics.

mod series;

use axum::Json;
use axum::extract::State;
use postrider_core::{EventType, SubscriberId};
use postrider_queue::Depth;
use postrider_store::stats::{DeliveryStats, Percentiles, StatsFilter, SubscriberStats};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::Parameters;
use crate::moment::Moment;
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(series::series))
}

/// Counts and latencies.
#[derive(Debug, Serialize, ToSchema)]
struct StatsView {
    subscribers: SubscribersView,
    deliveries: DeliveriesView,
    /// From dispatch to the first attempt.
    latency_ms: LatencyView,
    queue: QueueView,
}

/// How many subscribers the tenant has; filters do not count here.
#[derive(Debug, Serialize, ToSchema)]
struct SubscribersView {
    total: u64,
    active: u64,
}

/// What became of deliveries.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveriesView {
    total: u64,
    pending: u64,
    succeeded: u64,
    dead: u64,
    cancelled: u64,
    /// Attempts per delivery that has ended; null if none has.
    avg_attempts: Option<f64>,
    /// The part that arrived, 0 to 1, of what arrived or was given up; null if there is none.
    success_rate: Option<f64>,
}

/// Milliseconds below which half, 95 % and 99 % lie; null if nothing was attempted.
#[derive(Debug, Serialize, ToSchema)]
struct LatencyView {
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

/// The whole queue, of all tenants; filters do not count here. Numbers above 10,000 may be estimates.
#[derive(Debug, Serialize, ToSchema)]
struct QueueView {
    ready: u64,
    scheduled: u64,
    held: u64,
    running: u64,
    /// How long the oldest ready job has been waiting, of those that come first in their lanes; 0 if there is none.
    oldest_ready_seconds: f64,
}

/// What is to be counted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// Deliveries to this subscriber.
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// Deliveries of events of this type.
    #[param(value_type = Option<String>)]
    event: Option<EventType>,
    /// Deliveries made in the minute of this moment, or later.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
}

/// Get statistics
#[utoipa::path(
    get, path = "/v1/stats", operation_id = "get_stats", tag = "stats", params(StatsQuery),
    responses((status = 200, description = "Counts and latencies.", body = StatsView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<StatsQuery>,
) -> Result<Json<StatsView>, Problem> {
    let filter = StatsFilter {
        subscriber: query.subscriber_id,
        event_type: query.event,
        since: query.since.map(|Moment(since)| since),
    };
    let counted = state.store.stats(&caller.tenant, &filter).await?;
    let depth = state.store.queue().depth().await.map_err(postrider_store::StoreError::from)?;
    Ok(Json(StatsView {
        subscribers: counted.subscribers.into(),
        deliveries: counted.deliveries.into(),
        latency_ms: counted.latency.into(),
        queue: depth.into(),
    }))
}

impl From<SubscriberStats> for SubscribersView {
    fn from(SubscriberStats { total, active }: SubscriberStats) -> Self {
        Self { total, active }
    }
}

impl From<DeliveryStats> for DeliveriesView {
    fn from(stats: DeliveryStats) -> Self {
        let DeliveryStats { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate } = stats;
        Self { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate }
    }
}

impl From<Percentiles> for LatencyView {
    fn from(Percentiles { p50, p95, p99 }: Percentiles) -> Self {
        Self { p50, p95, p99 }
    }
}

impl From<Depth> for QueueView {
    fn from(depth: Depth) -> Self {
        let Depth { ready, scheduled, parked: held, running, oldest_ready } = depth;
        let oldest_ready_seconds = oldest_ready.unwrap_or_default().as_secs_f64();
        Self { ready, scheduled, held, running, oldest_ready_seconds }
    }
}
