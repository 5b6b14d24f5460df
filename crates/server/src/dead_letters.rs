//! Dead letters: listed, requeued and deleted.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_api::Moment;
use postrider_api::dead_letter::{DeadLettersQuery, RecoverRequest, RequeueRequest, RequeuedView};
use postrider_api::delivery::DeliveryList;
use postrider_core::id;
use postrider_core::key::Scope;
use postrider_store::dead_letters::{AttemptBudget, DeadFilter, Deleted, Requeued};
use postrider_store::subscribers::SubscriberState;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::deliveries::{self, delivery_view};
use crate::extract::{JsonBody, Parameters, PathId};
use crate::named;
use crate::named::PathSubscriber;
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

/// The most deliveries that one call requeues.
const MAX_REQUEUED: u64 = 10_000;

/// The most ids that one call may name.
const MAX_IDS: usize = 1_000;

const RETRY: Needs = Needs::scope(Scope::DeliveriesRetry).for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(Needs::scope(Scope::DeliveriesRead).for_some_subscribers(), routes!(list))
        .add(RETRY, routes!(requeue))
        .add(RETRY, routes!(delete))
        .add(RETRY, routes!(recover))
}

fn requeued_view(Requeued { deliveries, without_payload, more }: Requeued) -> RequeuedView {
    RequeuedView { requeued: deliveries, without_payload, more }
}

/// List dead letters
///
/// Deliveries that Postrider has given up, newest first.
#[utoipa::path(
    get, path = "/v1/dead-letters", operation_id = "list_dead_letters", tag = "dead letters", params(DeadLettersQuery),
    responses((status = 200, description = "A page of dead deliveries.", body = DeliveryList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<DeadLettersQuery>,
) -> Result<Json<DeliveryList>, Problem> {
    let filter = DeadFilter {
        ids: None,
        subscriber: named::filtered(&state.store, &caller, query.subscriber_id).await?,
        event_type: query.event_type,
        reason: query.reason,
        since: query.since.map(|Moment(since)| since),
        until: query.until.map(|Moment(until)| until),
    };
    let page = page::request(query.limit, query.cursor);
    let dead = state.store.dead_letters(&caller.tenant, &filter, page).await?;
    Ok(Json(page::list(dead, delivery_view)))
}

/// Requeue dead letters
///
/// Needs a filter, or `"all": true`. Requeues each selected dead letter once, even if two calls overlap; up to 10,000 per
/// call, oldest first. Dead letters of subscribers that are not active stay dead, and so do those of events whose payload
/// was erased or has expired.
#[utoipa::path(
    post, path = "/v1/dead-letters/requeue", operation_id = "requeue_dead_letters", tag = "dead letters",
    request_body = RequeueRequest,
    responses((status = 202, description = "The number of deliveries that are pending again.", body = RequeuedView))
)]
async fn requeue(
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<(StatusCode, Json<RequeuedView>), Problem> {
    let request: RequeueRequest = body.parse_or_default()?;
    if request.ids.as_ref().is_some_and(|ids| ids.len() > MAX_IDS) {
        return Err(Problem::field("ids", &format!("must have at most {MAX_IDS} ids")));
    }
    let has_filter = request.ids.is_some()
        || request.subscriber_id.is_some()
        || request.event_type.is_some()
        || request.since.is_some()
        || request.until.is_some();
    match (has_filter, request.all) {
        (false, false) => return Err(Problem::field("all", "must be true if there is no filter")),
        (true, true) => return Err(Problem::field("all", "must not be true beside a filter")),
        _ => {}
    }
    let filter = DeadFilter {
        ids: request.ids,
        subscriber: named::filtered(&store, &caller, request.subscriber_id).await?,
        event_type: request.event_type,
        reason: None,
        since: request.since.map(|Moment(since)| since),
        until: request.until.map(|Moment(until)| until),
    };
    let attempts = if request.keep_attempts { AttemptBudget::Keep } else { AttemptBudget::FromZero };
    let requeued = store.requeue(&caller.tenant, &filter, attempts, MAX_REQUEUED).await?;
    Ok((StatusCode::ACCEPTED, Json(requeued_view(requeued))))
}

/// Delete a dead letter
///
/// Deletes the delivery and its attempts. Statistics still count them.
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", operation_id = "delete_dead_letter", tag = "dead letters",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 204, description = "The dead letter is deleted."),
        (
            status = 409, description = "The delivery is not dead.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn delete(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<StatusCode, Problem> {
    deliveries::reach(&state, &caller, id, "dead letter").await?;
    match store.delete_dead_letter(&caller.tenant, id).await? {
        Deleted::Done => Ok(StatusCode::NO_CONTENT),
        Deleted::Not(status) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!("the delivery is {status}; only dead letters can be deleted"),
        )),
        Deleted::Missing => Err(Problem::missing("dead letter")),
    }
}

/// Recover a subscriber
///
/// Requeues the subscriber's dead letters of a span of time, oldest first; up to 10,000 per call.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/recover", operation_id = "recover_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    request_body = RecoverRequest,
    responses(
        (status = 202, description = "The number of deliveries that are pending again.", body = RequeuedView),
        (
            status = 409, description = "The subscriber is not active.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn recover(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
    body: JsonBody,
) -> Result<(StatusCode, Json<RequeuedView>), Problem> {
    let request: RecoverRequest = body.parse()?;
    let subscriber = state.store.subscriber(&caller.tenant, id).await?;
    if subscriber.ok_or_else(|| Problem::missing("subscriber"))?.state != SubscriberState::Active {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "the subscriber is not active; activate it before recovering its dead letters",
        ));
    }
    let filter = DeadFilter {
        subscriber: Some(id),
        since: Some(request.since.0),
        until: request.until.map(|Moment(until)| until),
        ..DeadFilter::default()
    };
    let requeued = store.requeue(&caller.tenant, &filter, AttemptBudget::FromZero, MAX_REQUEUED).await?;
    Ok((StatusCode::ACCEPTED, Json(requeued_view(requeued))))
}
