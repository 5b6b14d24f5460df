//! Deliveries and their attempts, and delivering again.

mod attempts;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_core::{DeliveryStatus, EventId, EventType, SubscriberId, id};
use postrider_store::history::{Delivery, DeliveryFilter};
use postrider_store::replay::Changed;
use postrider_telemetry::metric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::{Parameters, PathId};
use crate::moment::Moment;
use crate::page::{self, Cursor, Limit, List};
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(attempts::list_attempts))
        .routes(routes!(retry))
        .routes(routes!(cancel))
}

/// A delivery: one event on its way to one subscriber.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// Its id.
    #[schema(example = "dlv_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// The event.
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    event_id: String,
    /// The event's type.
    #[schema(example = "order.created")]
    event: String,
    /// The subscriber.
    #[schema(example = "sub_01h455vb4pex5vsknk084sn02q")]
    subscriber_id: String,
    /// Where it stands: `pending`, `succeeded`, `dead` or `cancelled`.
    #[schema(value_type = String, example = "succeeded")]
    status: DeliveryStatus,
    /// How many attempts it has had.
    attempts: u32,
    /// The job that works, or worked, on it.
    job_id: Option<String>,
    /// When the next attempt is due; null before the first and after the last.
    next_attempt_at: Option<Moment>,
    /// The HTTP status of the last attempt, if there was an answer.
    response_code: Option<u16>,
    /// Why the last attempt failed, if it did: `status`, `dns`, `timeout_headers`, …
    error_kind: Option<&'static str>,
    /// Why it is dead, if it is: `attempts_used_up`, `gone`, …
    dead_reason: Option<&'static str>,
    /// When it was made.
    created_at: Moment,
    /// When it ended; null while it is pending.
    ended_at: Option<Moment>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            event_id: delivery.event_id.to_string(),
            event: delivery.event_type.to_string(),
            subscriber_id: delivery.subscriber.to_string(),
            status: delivery.status,
            attempts: delivery.attempts,
            job_id: delivery.job.map(|job| job.to_string()),
            next_attempt_at: delivery.next_attempt_at.map(Moment),
            response_code: delivery.response_status,
            error_kind: delivery.error_kind.map(postrider_core::ErrorKind::as_str),
            dead_reason: delivery.dead_reason.map(postrider_core::DeadReason::as_str),
            created_at: delivery.created_at.into(),
            ended_at: delivery.ended_at.map(Moment),
        }
    }
}

/// Which deliveries are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// Those to this subscriber.
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// Those of events of this type.
    #[param(value_type = Option<String>)]
    event: Option<EventType>,
    /// Those of this event.
    #[param(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// Those that stand so: `pending`, `succeeded`, `dead` or `cancelled`.
    #[param(value_type = Option<String>)]
    status: Option<DeliveryStatus>,
    /// Those whose last answer had this HTTP status.
    #[param(value_type = Option<u16>, minimum = 100, maximum = 599)]
    response_code: Option<ResponseCode>,
    /// Those made at or after this moment.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Those made before this moment.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
    /// How many: 1 to 250; 50 if not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 250)]
    limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<id::Delivery>>,
}

/// An HTTP status as a parameter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ResponseCode(u16);

impl TryFrom<String> for ResponseCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.parse() {
            Ok(code @ 100..=599) => Ok(Self(code)),
            _ => Err("a response code is 100 to 599"),
        }
    }
}

/// List deliveries
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "deliveries", params(DeliveriesQuery),
    responses((status = 200, description = "A page of deliveries.", body = List<DeliveryView>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<DeliveriesQuery>,
) -> Result<Json<List<DeliveryView>>, Problem> {
    let filter = DeliveryFilter {
        subscriber: query.subscriber_id,
        event_type: query.event,
        event_id: query.event_id,
        status: query.status,
        response_status: query.response_code.map(|ResponseCode(code)| code),
        since: query.since.map(|Moment(since)| since),
        until: query.until.map(|Moment(until)| until),
    };
    let page = page::request(query.limit, query.cursor);
    let deliveries = state.store.deliveries(&caller.tenant, &filter, page).await?;
    Ok(Json(List::of(deliveries, DeliveryView::from)))
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
    found.map(|delivery| Json(delivery.into())).ok_or_else(|| Problem::missing("delivery"))
}

/// Deliver again
///
/// Of a delivery that has ended: a new round of attempts on the full schedule, with the same `webhook-id`.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/retry", operation_id = "retry_delivery", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 202, description = "It is pending again.", body = DeliveryView),
        (status = 409, description = "It is pending already.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn retry(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let delivery = changed(state.store.retry(&caller.tenant, id).await?, "it will be delivered in any case")?;
    Ok((StatusCode::ACCEPTED, Json(delivery)))
}

/// Cancel a delivery
///
/// Of a delivery that is pending: no further attempt is begun. One that is in flight still ends.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", operation_id = "cancel_delivery", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 200, description = "It is cancelled.", body = DeliveryView),
        (status = 409, description = "It has ended already.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<Json<DeliveryView>, Problem> {
    let cancelled =
        changed(state.store.cancel(&caller.tenant, id).await?, "only a pending one can be cancelled")?;
    // No worker records this end.
    let label = state.event_types.value(&cancelled.event);
    metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => cancelled.status.as_str())
        .increment(1);
    Ok(Json(cancelled))
}

fn changed(changed: Changed, rule: &str) -> Result<DeliveryView, Problem> {
    match changed {
        Changed::Done(delivery) => Ok((*delivery).into()),
        Changed::Not(status) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("the delivery is {status}: {rule}")))
        }
        Changed::Missing => Err(Problem::missing("delivery")),
    }
}
