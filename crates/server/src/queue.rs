//! The queue and its workers.

use axum::Json;
use axum::extract::State;
use postrider_api::Moment;
use postrider_api::queue::{
    LaneCursor, LaneList, LaneOrder, LanePauseReason, LanePauseView, LaneRateView, LaneView, LanesQuery,
    QueueStatusView, WorkerList, WorkerView,
};
use postrider_core::key::Scope;
use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_queue::{LaneId, LanePause, LaneQuery, LaneRate, LaneStatus, WorkerStatus};
use postrider_store::queue_ids::lane_of;
use postrider_store::{PageRequest, StoreError};
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::extract::Parameters;
use crate::named;
use crate::needs::Needs;
use crate::pressure::FULL;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;
use crate::stats::view::queue_view;

const MANAGE: Needs = Needs::scope(Scope::QueueManage).on_deployment();
const LANES: Needs = Needs::scope(Scope::StatsRead).on_deployment().for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(MANAGE, routes!(list_workers)).add(MANAGE, routes!(read)).add(LANES, routes!(list_lanes))
}

/// List workers
///
/// All that run, and those that have fallen silent within the last minute. The oldest first, all on one page.
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "list_workers", tag = "queue",
    responses((status = 200, description = "All workers.", body = WorkerList))
)]
async fn list_workers(State(state): State<ApiState>) -> Result<Json<WorkerList>, Problem> {
    let workers = state.store.queue().workers().await.map_err(StoreError::from)?;
    Ok(Json(WorkerList { data: workers.into_iter().map(worker_view).collect(), next_cursor: None }))
}

fn worker_view(worker: WorkerStatus) -> WorkerView {
    let WorkerStatus { worker, host, version, started_at, seen_at, in_flight, silent } = worker;
    WorkerView {
        id: worker.0.to_string(),
        version,
        host,
        since: Timestamp::from_millis(started_at).into(),
        last_seen_at: Timestamp::from_millis(seen_at).into(),
        in_flight,
        silent,
    }
}

/// Get the queue
///
/// Counts by state, and the longest wait, of the whole deployment. `GET /v1/queue/lanes` has the queue of a tenant.
#[utoipa::path(
    get, path = "/v1/queue", operation_id = "get_queue", tag = "queue",
    responses((status = 200, description = "The queue.", body = QueueStatusView))
)]
async fn read(State(state): State<ApiState>) -> Result<Json<QueueStatusView>, Problem> {
    let depth = state.store.queue().depth().await.map_err(StoreError::from)?;
    let wait = state.store.queue().longest_wait(FULL).await.map_err(StoreError::from)?;
    Ok(Json(QueueStatusView {
        counts: queue_view(depth),
        longest_wait_seconds: wait.map(|wait| wait.as_secs_f64()),
    }))
}

/// List lanes
///
/// The subscribers for which deliveries wait that are due: how many, for how long, and why. For the key of a tenant they are
/// those of the tenant; one that is limited to some subscribers names one of them. The key of an operator that has the scope `queue:manage` and names no tenant sees those of all tenants.
///
/// A request examines up to a thousand lanes and puts those in order. Of more, the next pages continue with the next thousand,
/// which begin with their own deepest or oldest lane; such a page may be empty although `next_cursor` continues. Deliveries
/// come and go between two pages, so a lane can be on both or on neither.
#[utoipa::path(
    get, path = "/v1/queue/lanes", operation_id = "list_lanes", tag = "queue", params(LanesQuery),
    responses((status = 200, description = "A page of lanes.", body = LaneList))
)]
async fn list_lanes(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<LanesQuery>,
) -> Result<Json<LaneList>, Problem> {
    let sees_all = !caller.one_tenant && caller.may(Scope::QueueManage);
    let owner = (!sees_all).then(|| caller.tenant.as_str().to_owned());
    let order = match query.order.unwrap_or_default() {
        LaneOrder::Depth => postrider_queue::LaneOrder::Depth,
        LaneOrder::Age => postrider_queue::LaneOrder::Age,
    };
    let after = query
        .cursor
        .map(|LaneCursor { after, skip }| postrider_queue::LaneCursor { after: LaneId(after.uuid()), skip });
    let default = PageRequest::<postrider_core::id::Subscriber>::default().limit;
    let limit = query.limit.map_or(default, postrider_api::Limit::items);
    let lane = named::filtered(&state.store, &caller, query.subscriber_id).await?.map(lane_of);
    let query = LaneQuery { owner, lane, order, after, limit };
    let page = state.store.queue().lanes(&query).await.map_err(StoreError::from)?;
    let next =
        page.next.map(|next| LaneCursor { after: SubscriberId::from_uuid(next.after.0), skip: next.skip });
    let now = state.store.ids().clock().now();
    let data = page.lanes.into_iter().filter_map(|lane| lane_view(lane, now)).collect();
    Ok(Json(LaneList { data, next_cursor: next.map(String::from) }))
}

/// `None` for a lane whose owner is no tenant, as an older release could leave one.
fn lane_view(lane: LaneStatus, now: Timestamp) -> Option<LaneView> {
    let LaneStatus { lane, owner, settings, waiting, scheduled, more, running, oldest, pause } = lane;
    Some(LaneView {
        subscriber_id: SubscriberId::from_uuid(lane.0),
        tenant: owner.parse::<TenantId>().ok()?,
        depth: waiting,
        scheduled,
        more,
        running,
        oldest_seconds: oldest.as_secs_f64(),
        concurrency: settings.concurrency.map(std::num::NonZeroU32::get),
        ordered: settings.ordered,
        rate_limit: settings.rate.map(rate_limit),
        pause: pause.map(|pause| pause_view(pause, now)),
    })
}

fn rate_limit(LaneRate { interval, burst }: LaneRate) -> LaneRateView {
    let exact = 1.0 / interval.as_secs_f64();
    // Intervals are whole microseconds: without the rounding, a limit of 30 would read as 30.0003.
    let per_second = if exact < 1.0 { exact } else { (exact * 100.0).round() / 100.0 };
    LaneRateView { per_second, burst: burst.get() }
}

fn pause_view(pause: LanePause, now: Timestamp) -> LanePauseView {
    let (reason, left) = match pause {
        LanePause::Draining => (LanePauseReason::Inactive, None),
        LanePause::Held => (LanePauseReason::Subscriber, None),
        LanePause::OwnerHeld => (LanePauseReason::Tenant, None),
        LanePause::Paused(left) => (LanePauseReason::Breaker, Some(left)),
        LanePause::Probing => (LanePauseReason::Probing, None),
        LanePause::AwaitsRetry(left) => (LanePauseReason::Retry, Some(left)),
    };
    LanePauseView { reason, until: left.map(|left| Moment(now + left)) }
}
