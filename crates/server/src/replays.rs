//! Replays: started, listed, paused, resumed and cancelled. What cancels deliveries is a replay too.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use postrider_api::Moment;
use postrider_api::delivery::ResponseCode;
use postrider_api::list::Count;
use postrider_api::replay::{
    CancelRequest, ReplayEstimateOfView, ReplayEstimateView, ReplayFailureView, ReplayFilter, ReplayList,
    ReplayRequest, ReplayView, ReplaysQuery,
};
use postrider_core::key::Scope;
use postrider_core::replay::{ReplayMode, ReplayStatus};
use postrider_core::{DeliveryStatus, ReplayId, SubscriberRef, TenantId, id};
use postrider_store::Store;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::replays::{
    Estimate, EstimateOf, MAX_OPEN, Replay, ReplayChange, ReplayChanged, Started,
};
use postrider_telemetry::metric;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::named;
use crate::needs::Needs;
use crate::page;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

/// For how long a request collects the set of a new replay; workers go on.
const COLLECTED_FOR: Duration = Duration::from_secs(2);

/// For how long a dry run counts.
const COUNTED_FOR: Duration = Duration::from_secs(8);

/// A key that is limited to some subscribers has the replays whose filter names one of them.
const READ: Needs = Needs::scope(Scope::DeliveriesRead).for_some_subscribers();
const WRITE: Needs = Needs::scope(Scope::ReplaysWrite).for_some_subscribers();
const CANCEL: Needs = Needs::scope(Scope::DeliveriesRetry).for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(WRITE, routes!(start))
        .add(CANCEL, routes!(cancel_matching))
        .add(READ, routes!(list))
        .add(READ, routes!(read))
        .add(WRITE, routes!(pause))
        .add(WRITE, routes!(resume))
        .add(WRITE, routes!(cancel))
}

fn replay_view(replay: Replay) -> ReplayView {
    let DeliveryFilter { subscriber, event_type, event_id, status, response_status, .. } = replay.filter;
    let DeliveryFilter { error_kind, dead_reason, min_attempts, max_attempts, since, until, .. } =
        replay.filter;
    let failures = replay.failures.into_iter();
    ReplayView {
        id: replay.id,
        mode: replay.mode,
        filter: ReplayFilter {
            subscriber_id: subscriber.map(SubscriberRef::Id),
            event_type,
            event_id,
            status,
            response_code: response_status.as_ref().and_then(ResponseCode::of),
            error_kind,
            dead_reason,
            min_attempts,
            max_attempts,
            since: since.map(Moment),
            until: until.map(Moment),
        },
        status: replay.status,
        total: replay.total,
        frozen: replay.collected,
        truncated: replay.truncated,
        done: replay.done,
        failed: replay.failed,
        failures: failures.map(|(reason, count)| ReplayFailureView { reason, count }).collect(),
        created_at: replay.created_at.into(),
        ended_at: replay.ended_at.map(Moment),
    }
}

fn estimate_view(estimate: Estimate) -> ReplayEstimateView {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let of = |EstimateOf { subscriber, total, succeeded, at_least }| ReplayEstimateOfView {
        subscriber_id: subscriber,
        total,
        succeeded,
        seconds: at_least.map(seconds),
    };
    ReplayEstimateView {
        total: estimate.total,
        complete: estimate.complete,
        succeeded: estimate.succeeded,
        oldest: estimate.oldest.map(Moment),
        newest: estimate.newest.map(Moment),
        seconds: seconds(estimate.at_least),
        subscribers: estimate.subscribers,
        by_subscriber: estimate.listed.into_iter().map(of).collect(),
    }
}

/// Start a replay
///
/// Delivers again everything that matches the filter, as a job that workers carry out step by step. Its set is what had ended
/// by the time of the request (for `missed`: what was dispatched by then) and still was as it was when it was collected, which
/// takes a moment for many deliveries: `frozen` says when `total` is exact. In the end `done` and `failed` add up to `total`.
///
/// A delivery gets a new round of attempts on the full schedule, with the same `webhook-id`, and waits in its subscriber's
/// lane like any other. One that is pending is left out. For `missed`, an event whose payload is gone is left out, and so are
/// test events.
///
/// With `dry_run` nothing is started, and the answer counts what would be delivered. A key that is limited to some subscribers
/// names one of them in the filter.
#[utoipa::path(
    post, path = "/v1/replays", operation_id = "start_replay", tag = "replays", request_body = ReplayRequest,
    responses(
        (status = 200, description = "What would be delivered (`dry_run`).", body = ReplayEstimateView),
        (status = 202, description = "The replay was started.", body = ReplayView),
        (
            status = 409, description = "The tenant has 10 replays already that are not over.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn start(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ReplayRequest { filter, mode, dry_run } = body.parse()?;
    if mode == ReplayMode::Cancel {
        return Err(Problem::field(
            "mode",
            "must be `dead`, `all` or `missed`; `POST /v1/deliveries/cancel` cancels",
        ));
    }
    begin(&state, &store, &caller, filter, mode, dry_run).await
}

/// Cancel deliveries
///
/// Cancels every pending delivery that matches the filter, as a job like a replay: `/v1/replays/{id}` has its progress, and pauses,
/// resumes and cancels it. Its set is what was dispatched by the time of the request and is pending when it is collected, which
/// takes a moment for many deliveries: `frozen` says when `total` is exact. A delivery that ends before its turn counts as
/// `failed`. A request that is in flight still finishes, and its attempt is recorded.
///
/// With `dry_run` nothing is started, and the answer counts what would be cancelled. A key that is limited to some subscribers
/// names one of them in the filter.
#[utoipa::path(
    post, path = "/v1/deliveries/cancel", operation_id = "cancel_deliveries", tag = "deliveries", request_body = CancelRequest,
    responses(
        (status = 200, description = "What would be cancelled (`dry_run`).", body = ReplayEstimateView),
        (status = 202, description = "The job was started.", body = ReplayView),
        (
            status = 409, description = "The tenant has 10 replays already that are not over.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn cancel_matching(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let CancelRequest { filter, dry_run } = body.parse()?;
    begin(&state, &store, &caller, filter, ReplayMode::Cancel, dry_run).await
}

/// Starts a replay, or counts what it would concern.
async fn begin(
    state: &ApiState,
    store: &Store,
    caller: &Caller,
    filter: ReplayFilter,
    mode: ReplayMode,
    dry_run: bool,
) -> Result<Response, Problem> {
    let filter = selected(state, caller, filter, mode).await?;
    let filters = state.dispatcher.filters();
    let tenant = &caller.tenant;
    if dry_run {
        let within = COUNTED_FOR.min(state.config.request_timeout / 2);
        let estimate = store.estimate_replay(tenant, mode, &filter, filters, within).await?;
        return Ok(Json(estimate_view(estimate)).into_response());
    }
    let replay = match store.start_replay(tenant, mode, &filter).await? {
        Started::Replay(replay) => *replay,
        Started::TooMany => {
            let detail =
                format!("there are {MAX_OPEN} replays that are not over; wait for one, or cancel it");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    };
    metrics::counter!(metric::REPLAYS, metric::STATUS => "started").increment(1);
    let id = replay.id;
    // The replay is there: a failure from here on must not deny it.
    let replay = collected(state, tenant, id).await.unwrap_or(replay);
    Ok((StatusCode::ACCEPTED, Json(replay_view(replay))).into_response())
}

/// The filter of a request, if it suits the mode.
async fn selected(
    state: &ApiState,
    caller: &Caller,
    filter: ReplayFilter,
    mode: ReplayMode,
) -> Result<DeliveryFilter, Problem> {
    let ReplayFilter { subscriber_id, event_type, event_id, status, response_code, since, until, .. } =
        filter;
    let ReplayFilter { error_kind, dead_reason, min_attempts, max_attempts, .. } = filter;
    let mut errors = Errors::default();
    match (mode, status) {
        (_, None)
        | (ReplayMode::Dead, Some(DeliveryStatus::Dead))
        | (ReplayMode::Cancel, Some(DeliveryStatus::Pending))
        | (
            ReplayMode::All,
            Some(DeliveryStatus::Succeeded | DeliveryStatus::Dead | DeliveryStatus::Cancelled),
        ) => {}
        (ReplayMode::Dead, _) => {
            errors.add("filter.status", "must be `dead`, or absent, for the mode `dead`");
        }
        (ReplayMode::All, _) => {
            errors.add("filter.status", "must not be `pending`: pending deliveries are under way");
        }
        (ReplayMode::Cancel, _) => {
            errors.add(
                "filter.status",
                "must be `pending`, or absent: only pending deliveries can be cancelled",
            );
        }
        (ReplayMode::Missed, _) => errors.add("filter.status", "must be absent for the mode `missed`"),
    }
    let of_deliveries = [
        ("filter.response_code", response_code.is_some()),
        ("filter.error_kind", error_kind.is_some()),
        ("filter.dead_reason", dead_reason.is_some()),
        ("filter.min_attempts", min_attempts.is_some()),
        ("filter.max_attempts", max_attempts.is_some()),
    ];
    for (field, is_given) in of_deliveries {
        if is_given && mode == ReplayMode::Missed {
            errors.add(field, "must be absent for the mode `missed`");
        }
    }
    for (field, attempts) in [("filter.min_attempts", min_attempts), ("filter.max_attempts", max_attempts)] {
        if attempts.is_some_and(|attempts| attempts > Count::MAX) {
            errors.add(field, &format_args!("must be at most {}", Count::MAX));
        }
    }
    errors.finish(Some(()))?;
    Ok(DeliveryFilter {
        subscriber: named::filtered(&state.store, caller, subscriber_id).await?,
        event_type,
        event_id,
        status,
        response_status: response_code.map(|codes| codes.codes()),
        error_kind,
        dead_reason,
        min_attempts,
        max_attempts,
        since: since.map(|Moment(since)| since),
        until: until.map(|Moment(until)| until),
    })
}

/// Collects the set of a replay for a moment, so that most answers have its exact size. `None` if that fails; workers collect
/// it then.
async fn collected(state: &ApiState, tenant: &TenantId, id: ReplayId) -> Option<Replay> {
    let until = Instant::now() + COLLECTED_FOR;
    while Instant::now() < until {
        let step = state.store.step_replay(tenant, id, state.dispatcher.filters()).await.ok()?;
        if step.is_none_or(|step| step.status != ReplayStatus::Collecting) {
            break;
        }
    }
    state.store.replay(tenant, id).await.ok()?
}

/// List replays
///
/// Newest first. A key that is limited to some subscribers sees those whose filter names one of them: a page may be short, or
/// empty, although `next_cursor` continues.
#[utoipa::path(
    get, path = "/v1/replays", operation_id = "list_replays", tag = "replays", params(ReplaysQuery),
    responses((status = 200, description = "A page of replays.", body = ReplayList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<ReplaysQuery>,
) -> Result<Json<ReplayList>, Problem> {
    let page = page::request(query.limit, query.cursor);
    let mut replays = state.store.replays(&caller.tenant, page).await?;
    replays.items.retain(|replay| reaches(&caller, replay));
    Ok(Json(page::list(replays, replay_view)))
}

/// Get a replay
#[utoipa::path(
    get, path = "/v1/replays/{id}", operation_id = "get_replay", tag = "replays",
    params(("id" = String, Path, description = "The replay's id, `rpl_…`.")),
    responses((status = 200, description = "The replay.", body = ReplayView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Replay>,
) -> Result<Json<ReplayView>, Problem> {
    let found = state.store.replay(&caller.tenant, id).await?.filter(|replay| reaches(&caller, replay));
    Ok(Json(replay_view(found.ok_or_else(|| Problem::missing("replay"))?)))
}

/// Whether a replay concerns only what the key reaches.
fn reaches(caller: &Caller, replay: &Replay) -> bool {
    caller.subscribers().is_none() || replay.filter.subscriber.is_some_and(|one| caller.reaches(one))
}

/// Answers a replay that the key does not reach as an unknown one.
async fn reach(store: &Store, caller: &Caller, id: ReplayId) -> Result<(), Problem> {
    if caller.subscribers().is_none() {
        return Ok(());
    }
    let found = store.replay(&caller.tenant, id).await?.filter(|replay| reaches(caller, replay));
    found.map(drop).ok_or_else(|| Problem::missing("replay"))
}

/// Pause a replay
///
/// No further delivery is made pending, or cancelled, until it is resumed. Those that it has made pending are delivered.
#[utoipa::path(
    post, path = "/v1/replays/{id}/pause", operation_id = "pause_replay", tag = "replays",
    params(("id" = String, Path, description = "The replay's id, `rpl_…`.")),
    responses(
        (status = 200, description = "The replay is paused.", body = ReplayView),
        (
            status = 409, description = "The replay is paused already, or over.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn pause(
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Replay>,
) -> Result<Json<ReplayView>, Problem> {
    reach(&store, &caller, id).await?;
    changed(store.change_replay(&caller.tenant, id, ReplayChange::Pause).await?, "it cannot be paused")
}

/// Resume a replay
#[utoipa::path(
    post, path = "/v1/replays/{id}/resume", operation_id = "resume_replay", tag = "replays",
    params(("id" = String, Path, description = "The replay's id, `rpl_…`.")),
    responses(
        (status = 200, description = "The replay goes on.", body = ReplayView),
        (
            status = 409, description = "The replay is not paused.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn resume(
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Replay>,
) -> Result<Json<ReplayView>, Problem> {
    reach(&store, &caller, id).await?;
    changed(store.change_replay(&caller.tenant, id, ReplayChange::Resume).await?, "it cannot be resumed")
}

/// Cancel a replay
///
/// No further delivery is made pending, or cancelled. Those that it has made pending are delivered.
#[utoipa::path(
    post, path = "/v1/replays/{id}/cancel", operation_id = "cancel_replay", tag = "replays",
    params(("id" = String, Path, description = "The replay's id, `rpl_…`.")),
    responses(
        (status = 200, description = "The replay is cancelled.", body = ReplayView),
        (
            status = 409, description = "The replay is over.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn cancel(
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Replay>,
) -> Result<Json<ReplayView>, Problem> {
    reach(&store, &caller, id).await?;
    let cancelled = store.change_replay(&caller.tenant, id, ReplayChange::Cancel).await?;
    if matches!(cancelled, ReplayChanged::Done(_)) {
        let status = ReplayStatus::Cancelled.as_str();
        metrics::counter!(metric::REPLAYS, metric::STATUS => status).increment(1);
    }
    changed(cancelled, "it cannot be cancelled")
}

fn changed(changed: ReplayChanged, rule: &str) -> Result<Json<ReplayView>, Problem> {
    match changed {
        ReplayChanged::Done(replay) => Ok(Json(replay_view(*replay))),
        ReplayChanged::Not(status) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("the replay is {status}; {rule}")))
        }
        ReplayChanged::Missing => Err(Problem::missing("replay")),
    }
}
