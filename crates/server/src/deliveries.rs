//! Deliveries and their attempts, retrying and cancelling.

mod attempts;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_api::Moment;
use postrider_api::delivery::{DeliveriesQuery, DeliveryList, DeliveryView};
use postrider_api::list::Count;
use postrider_core::key::Scope;
use postrider_core::{DeliveryId, id};
use postrider_store::deliveries::Changed;
use postrider_store::deliveries::{Delivery, DeliveryFilter};
use postrider_store::erasure::PayloadGone;
use postrider_telemetry::metric;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{Parameters, PathId};
use crate::named;
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

pub(crate) use attempts::{attempt_view, hidden};

const READ: Needs = Needs::scope(Scope::DeliveriesRead).for_some_subscribers();
const RETRY: Needs = Needs::scope(Scope::DeliveriesRetry).for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(READ, routes!(list))
        .add(READ, routes!(read))
        .add(READ.with_audited_read(), routes!(attempts::list_attempts))
        .add(RETRY, routes!(retry))
        .add(RETRY, routes!(cancel))
}

pub(crate) fn delivery_view(delivery: Delivery) -> DeliveryView {
    DeliveryView {
        id: delivery.id,
        event_id: delivery.event_id,
        event_type: delivery.event_type,
        subscriber_id: delivery.subscriber,
        status: delivery.status,
        attempts: delivery.attempts,
        job_id: delivery.job,
        next_attempt_at: delivery.next_attempt_at.map(Moment),
        response_code: delivery.response_status,
        error_kind: delivery.error_kind,
        dead_reason: delivery.dead_reason,
        created_at: delivery.created_at.into(),
        ended_at: delivery.ended_at.map(Moment),
    }
}

/// List deliveries
///
/// Newest first. Of several filters, all must fit. A request examines a bounded number of deliveries: with filters that few of
/// them fit, a page may be empty although `next_cursor` continues.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "deliveries", params(DeliveriesQuery),
    responses((status = 200, description = "A page of deliveries.", body = DeliveryList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<DeliveriesQuery>,
) -> Result<Json<DeliveryList>, Problem> {
    let filter = DeliveryFilter {
        subscriber: named::filtered(&state.store, &caller, query.subscriber_id).await?,
        event_type: query.event_type,
        event_id: query.event_id,
        status: query.status,
        response_status: query.response_code.map(|codes| codes.codes()),
        error_kind: query.error_kind,
        dead_reason: query.dead_reason,
        min_attempts: query.min_attempts.map(|Count(least)| least),
        max_attempts: query.max_attempts.map(|Count(most)| most),
        since: query.since.map(|Moment(since)| since),
        until: query.until.map(|Moment(until)| until),
    };
    let page = page::request(query.limit, query.cursor);
    let deliveries = state.store.deliveries(&caller.tenant, &filter, page).await?;
    Ok(Json(page::list(deliveries, delivery_view)))
}

/// Get a delivery
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", operation_id = "get_delivery", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses((status = 200, description = "The delivery.", body = DeliveryView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<Json<DeliveryView>, Problem> {
    let found = state.store.delivery(&caller.tenant, id).await?;
    let delivery = found.ok_or_else(|| Problem::missing("delivery"))?;
    caller.reach(delivery.subscriber, "delivery")?;
    Ok(Json(delivery_view(delivery)))
}

/// Answers a delivery that the key does not reach as an unknown one.
pub(crate) async fn reach(
    state: &ApiState,
    caller: &Caller,
    id: DeliveryId,
    what: &str,
) -> Result<(), Problem> {
    if caller.subscribers().is_none() {
        return Ok(());
    }
    let found = state.store.delivery(&caller.tenant, id).await?;
    caller.reach(found.ok_or_else(|| Problem::missing(what))?.subscriber, what)
}

/// Retry a delivery
///
/// Starts a new round of attempts on the full schedule, with the same `webhook-id`. The delivery must have ended.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/retry", operation_id = "retry_delivery", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 202, description = "The delivery is pending again.", body = DeliveryView),
        (
            status = 409,
            description = "The delivery is already pending, its subscriber is not active, or the payload of its event was erased or has expired.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn retry(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    reach(&state, &caller, id, "delivery").await?;
    let delivery = changed(store.retry(&caller.tenant, id).await?, "it needs no retry")?;
    Ok((StatusCode::ACCEPTED, Json(delivery)))
}

/// Cancel a delivery
///
/// No further attempt starts; an attempt in flight still finishes. The delivery must be pending.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", operation_id = "cancel_delivery", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 200, description = "The delivery is cancelled.", body = DeliveryView),
        (
            status = 409, description = "The delivery has already ended.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<Json<DeliveryView>, Problem> {
    reach(&state, &caller, id, "delivery").await?;
    let cancelled =
        changed(store.cancel(&caller.tenant, id).await?, "only pending deliveries can be cancelled")?;
    // Workers count the deliveries that they end. No worker ended this one.
    let label = state.event_types.value(cancelled.event_type.as_str());
    metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => cancelled.status.as_str())
        .increment(1);
    Ok(Json(cancelled))
}

/// Why a delivery cannot be delivered again.
fn why_gone(gone: PayloadGone) -> &'static str {
    match gone {
        PayloadGone::Erased => "the payload of the delivery's event was erased; it cannot be delivered again",
        PayloadGone::Expired => {
            "the payload of the delivery's event has expired (POSTRIDER_RETAIN_PAYLOADS); it cannot be delivered again"
        }
    }
}

fn changed(changed: Changed, rule: &str) -> Result<DeliveryView, Problem> {
    match changed {
        Changed::Done(delivery) => Ok(delivery_view(*delivery)),
        Changed::Not(status) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("the delivery is {status}; {rule}")))
        }
        Changed::PayloadGone(gone) => Err(Problem::new(StatusCode::CONFLICT, why_gone(gone))),
        Changed::Inactive => Err(Problem::new(
            StatusCode::CONFLICT,
            "the subscriber is not active or was deleted; activate it before retrying its deliveries",
        )),
        Changed::Missing => Err(Problem::missing("delivery")),
    }
}
