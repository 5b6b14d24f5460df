//! Test events.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use postrider_api::event::DispatchedView;
use postrider_dispatch::NewEvent;
use postrider_store::subscribers::SubscriberState;
use serde_json::json;

use crate::auth::Trace;
use crate::caller::Caller;
use crate::events::{dispatched_view, idempotency_key};
use crate::matching::TEST_EVENT;
use crate::named::PathSubscriber;
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

/// Send a test event
///
/// Sends an event of the type `postrider.test` to this subscriber only, whatever its event patterns. The delivery is
/// signed, retried and recorded like any other; read it to see the result.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/test", operation_id = "test_subscriber", tag = "subscribers",
    params(
        ("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats one event, as for `POST /v1/events`."),
    ),
    responses(
        (status = 202, description = "The event is durable and will be delivered.", body = DispatchedView),
        (
            status = 409, description = "The subscriber is not active.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn test_subscriber(
    State(state): State<ApiState>,
    caller: Caller,
    trace: Trace,
    headers: HeaderMap,
    PathSubscriber(id): PathSubscriber,
) -> Result<(StatusCode, Json<DispatchedView>), Problem> {
    let found = state.store.subscriber(&caller.tenant, id).await?;
    let subscriber = found.ok_or_else(|| Problem::missing("subscriber"))?;
    if subscriber.state != SubscriberState::Active {
        return Err(Problem::new(StatusCode::CONFLICT, "the subscriber is not active; activate it first"));
    }
    let data = json!({"subscriber_id": id, "message": "This is a test event from Postrider."});
    let event = NewEvent::new(TEST_EVENT, &data).map_err(|_| Problem::internal())?;
    caller.may_dispatch(&event.event_type)?;
    let mut errors = Errors::default();
    let key = idempotency_key(&headers, &mut errors);
    errors.finish(Some(()))?;
    let text = key.as_ref().map(|key| key.as_str().to_owned());
    let event = NewEvent { tenant: caller.tenant, trace: trace.0, key, ..event };
    let dispatched = state.dispatcher.dispatch_to(id, event).await?;
    Ok((StatusCode::ACCEPTED, Json(dispatched_view(dispatched, text))))
}
