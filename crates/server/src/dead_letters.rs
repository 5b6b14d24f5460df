//! Dead letters: deliveries that were given up, and delivering them again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_core::{DeadReason, DeliveryId, EventType, SubscriberId, id};
use postrider_store::replay::{AttemptBudget, DeadFilter, Deleted, Requeued};
use postrider_store::subscriber::SubscriberState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::deliveries::DeliveryView;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::moment::Moment;
use crate::page::{self, Cursor, Limit, List};
use crate::problem::Problem;
use crate::state::ApiState;

/// How many deliveries one call begins anew at most.
const MOST: u64 = 10_000;

/// How many ids one call may name.
const MOST_IDS: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(requeue))
        .routes(routes!(delete))
        .routes(routes!(recover))
}

/// Which dead letters are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadLettersQuery {
    /// Those to this subscriber.
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// Those of events of this type.
    #[param(value_type = Option<String>)]
    event: Option<EventType>,
    /// Those that are dead for this reason: `attempts_used_up`, `gone`, `rescued_too_often` or `subscriber_failing`.
    #[param(value_type = Option<String>)]
    reason: Option<DeadReason>,
    /// Those that died at or after this moment.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Those that died before this moment.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
    /// How many: 1 to 250; 50 if not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 250)]
    limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<id::Delivery>>,
}

/// List dead letters
///
/// Deliveries that were given up, newest first.
#[utoipa::path(
    get, path = "/v1/dead-letters", operation_id = "list_dead_letters", tag = "dead letters", params(DeadLettersQuery),
    responses((status = 200, description = "A page of deliveries that are dead.", body = List<DeliveryView>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<DeadLettersQuery>,
) -> Result<Json<List<DeliveryView>>, Problem> {
    let filter = DeadFilter {
        ids: None,
        subscriber: query.subscriber_id,
        event_type: query.event,
        reason: query.reason,
        since: query.since.map(|Moment(since)| since),
        until: query.until.map(|Moment(until)| until),
    };
    let page = page::request(query.limit, query.cursor);
    let dead = state.store.dead_letters(&caller.tenant, &filter, page).await?;
    Ok(Json(List::of(dead, DeliveryView::from)))
}

/// Which dead letters are to be delivered again; what is not given does not matter.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RequeueRequest {
    /// These: at most 1000.
    #[schema(value_type = Option<Vec<String>>)]
    ids: Option<Vec<DeliveryId>>,
    /// Those to this subscriber.
    #[schema(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// Those of events of this type.
    #[schema(value_type = Option<String>)]
    event: Option<EventType>,
    /// Those that died at or after this moment.
    #[schema(value_type = Option<String>)]
    since: Option<Moment>,
    /// Those that died before this moment.
    #[schema(value_type = Option<String>)]
    until: Option<Moment>,
    /// Count the attempts so far: what has used them up gets one more. If not, a new round begins.
    #[serde(default)]
    keep_attempts: bool,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
struct RequeuedView {
    /// How many deliveries are pending again.
    requeued: u64,
    /// There are more of them than one call begins anew: call again.
    more: bool,
}

impl From<Requeued> for RequeuedView {
    fn from(Requeued { deliveries, more }: Requeued) -> Self {
        Self { requeued: deliveries, more }
    }
}

/// Deliver dead letters again
///
/// Each once, also when called twice at the same time; up to 10,000 in one call, oldest first. Those of
/// subscribers that are not active stay dead.
#[utoipa::path(
    post, path = "/v1/dead-letters/requeue", operation_id = "requeue_dead_letters", tag = "dead letters",
    request_body = RequeueRequest,
    responses((status = 202, description = "How many are pending again.", body = RequeuedView))
)]
async fn requeue(
    State(state): State<ApiState>,
    caller: Caller,
    body: JsonBody,
) -> Result<(StatusCode, Json<RequeuedView>), Problem> {
    let request: RequeueRequest = body.parse_or_default()?;
    if request.ids.as_ref().is_some_and(|ids| ids.len() > MOST_IDS) {
        return Err(Problem::field("ids", "at most 1000 ids at once"));
    }
    let filter = DeadFilter {
        ids: request.ids,
        subscriber: request.subscriber_id,
        event_type: request.event,
        reason: None,
        since: request.since.map(|Moment(since)| since),
        until: request.until.map(|Moment(until)| until),
    };
    let attempts = if request.keep_attempts { AttemptBudget::Keep } else { AttemptBudget::FromZero };
    let requeued = state.store.requeue(&caller.tenant, &filter, attempts, MOST).await?;
    Ok((StatusCode::ACCEPTED, Json(requeued.into())))
}

/// Delete a dead letter
///
/// The delivery and its attempts are forgotten; statistics keep counting it.
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", operation_id = "delete_dead_letter", tag = "dead letters",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, description = "The delivery is not dead.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<StatusCode, Problem> {
    match state.store.delete_dead_letter(&caller.tenant, id).await? {
        Deleted::Done => Ok(StatusCode::NO_CONTENT),
        Deleted::Not(status) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!("the delivery is {status}: only dead letters can be deleted"),
        )),
        Deleted::Missing => Err(Problem::missing("dead letter")),
    }
}

/// Which dead letters of a subscriber are to be delivered again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecoverRequest {
    /// Those that died at or after this moment.
    #[schema(value_type = String)]
    since: Moment,
    /// Those that died before this moment.
    #[schema(value_type = Option<String>)]
    until: Option<Moment>,
}

/// Recover a subscriber
///
/// Delivers again what ended dead in that time, oldest first; up to 10,000 in one call.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/recover", operation_id = "recover_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    request_body = RecoverRequest,
    responses(
        (status = 202, description = "How many are pending again.", body = RequeuedView),
        (status = 409, description = "The subscriber is not active.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn recover(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
    body: JsonBody,
) -> Result<(StatusCode, Json<RequeuedView>), Problem> {
    let request: RecoverRequest = body.parse()?;
    let subscriber = state.store.subscriber(&caller.tenant, id).await?;
    if subscriber.ok_or_else(|| Problem::missing("subscriber"))?.state != SubscriberState::Active {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "the subscriber is not active: activate it, then recover what it has missed",
        ));
    }
    let filter = DeadFilter {
        subscriber: Some(id),
        since: Some(request.since.0),
        until: request.until.map(|Moment(until)| until),
        ..DeadFilter::default()
    };
    let requeued = state.store.requeue(&caller.tenant, &filter, AttemptBudget::FromZero, MOST).await?;
    Ok((StatusCode::ACCEPTED, Json(requeued.into())))
}
