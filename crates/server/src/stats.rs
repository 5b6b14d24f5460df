//! Statistics.

mod series;
pub(crate) mod view;

use axum::Json;
use axum::extract::State;
use postrider_api::Moment;
use postrider_api::stats::{StatsQuery, StatsView};
use postrider_core::key::Scope;
use postrider_store::stats::StatsFilter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::extract::Parameters;
use crate::named;
use crate::needs::Needs;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;
use view::{delivery_stats_view, percentiles_view, queue_view, subscriber_stats_view};

const READ: Needs = Needs::scope(Scope::StatsRead).for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(READ, routes!(read)).add(READ, routes!(series::series))
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
        subscriber: named::filtered(&state.store, &caller, query.subscriber_id).await?,
        event_type: query.event_type,
        since: query.since.map(|Moment(since)| since),
    };
    let counted = state.store.stats(&caller.tenant, &filter).await?;
    let queue = if caller.is_operator() {
        let depth = state.store.queue().depth().await.map_err(postrider_store::StoreError::from)?;
        Some(queue_view(depth))
    } else {
        None
    };
    Ok(Json(StatsView {
        subscribers: subscriber_stats_view(counted.subscribers),
        deliveries: delivery_stats_view(counted.deliveries),
        latency_ms: percentiles_view(counted.latency),
        queue,
    }))
}
