//! A test event to one subscriber.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_core::id;
use postrider_dispatch::NewEvent;
use postrider_store::subscriber::SubscriberState;
use serde_json::json;

use crate::auth::{Caller, Trace};
use crate::events::DispatchedView;
use crate::extract::PathId;
use crate::problem::Problem;
use crate::state::ApiState;

/// What a test event is called; no subscriber needs to ask for it.
const EVENT: &str = "postrider.test";

/// Send a test event
///
/// To this subscriber alone, whatever events it asks for: a real delivery, signed, retried and
/// recorded like any other. What became of it is told by its delivery.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/test", operation_id = "test_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses(
        (status = 202, description = "The event is on its way.", body = DispatchedView),
        (status = 409, description = "It is not active.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn test_subscriber(
    State(state): State<ApiState>,
    caller: Caller,
    trace: Trace,
    PathId(id): PathId<id::Subscriber>,
) -> Result<(StatusCode, Json<DispatchedView>), Problem> {
    let found = state.store.subscriber(&caller.tenant, id).await?;
    let subscriber = found.ok_or_else(|| Problem::missing("subscriber"))?;
    if subscriber.state != SubscriberState::Active {
        return Err(Problem::new(StatusCode::CONFLICT, "the subscriber is not active: activate it first"));
    }
    let data = json!({"subscriber_id": id, "message": "This is a test event from Postrider."});
    let event = NewEvent::new(EVENT, &data).map_err(|_| Problem::internal())?;
    let event = NewEvent { tenant: caller.tenant, trace: trace.0, ..event };
    let dispatched = state.dispatcher.dispatch_to(id, event).await?;
    Ok((StatusCode::ACCEPTED, Json(dispatched.into())))
}
