//! Statistics.

mod series;

use axum::Json;
use axum::extract::State;
use postrider_api::Moment;
use postrider_api::stats::{
    DeliveryStatsView, PercentilesView, QueueView, StatsQuery, StatsView, SubscriberStatsView,
};
use postrider_queue::Depth;
use postrider_store::stats::{DeliveryStats, Percentiles, StatsFilter, SubscriberStats};
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::Parameters;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::state::ApiState;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(Needs::KEY, routes!(read)).add(Needs::KEY, routes!(series::series))
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
        event_type: query.event_type,
        since: query.since.map(|Moment(since)| since),
    };
    let counted = state.store.stats(&caller.tenant, &filter).await?;
    let depth = state.store.queue().depth().await.map_err(postrider_store::StoreError::from)?;
    Ok(Json(StatsView {
        subscribers: subscriber_stats_view(counted.subscribers),
        deliveries: delivery_stats_view(counted.deliveries),
        latency_ms: percentiles_view(counted.latency),
        queue: queue_view(depth),
    }))
}

fn subscriber_stats_view(SubscriberStats { total, active }: SubscriberStats) -> SubscriberStatsView {
    SubscriberStatsView { total, active }
}

fn delivery_stats_view(stats: DeliveryStats) -> DeliveryStatsView {
    let DeliveryStats { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate } = stats;
    DeliveryStatsView { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate }
}

fn percentiles_view(Percentiles { p50, p95, p99 }: Percentiles) -> PercentilesView {
    PercentilesView { p50, p95, p99 }
}

fn queue_view(depth: Depth) -> QueueView {
    let Depth { ready, scheduled, parked, running, oldest_ready } = depth;
    let oldest_ready_seconds = oldest_ready.unwrap_or_default().as_secs_f64();
    QueueView { ready, scheduled, parked, running, oldest_ready_seconds }
}
