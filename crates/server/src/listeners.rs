//! Listeners: created, followed, answered and ended.
//!
//! | file | what it holds |
//! |---|---|
//! | `answer` | takes the answers to requests |
//! | `stream` | hands requests to the client, as server-sent events |

mod answer;
mod stream;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::listener::{ListenerAnswerRequest, ListenerRequest, ListenerView};
use postrider_api::secret::SecretView;
use postrider_api::subscriber::SubscriberRequest;
use postrider_core::id;
use postrider_core::inside::{listener_url, new_token};
use postrider_core::key::Scope;
use postrider_core::policy::PolicyFields;
use postrider_store::listeners::{Handover, LISTENER_LEASE, MAX_LISTENERS};
use utoipa_axum::routes;

use self::stream::Follower;
use crate::audit::Audited;
use crate::caller::Caller;
use crate::created::created;
use crate::extract::{JsonBody, PathId};
use crate::needs::Needs;
use crate::problem::Problem;
use crate::rate::Exceeded;
use crate::routes::Routes;
use crate::state::ApiState;
use crate::subscribers;

/// A client that listens gets the data of events, through a subscriber.
pub(crate) const WRITE: Needs = Needs::scope(Scope::SubscribersWrite).and(Scope::PayloadsRead);
pub(crate) const FOLLOW: Needs = Needs::scope(Scope::SubscribersWrite).and_reads(Scope::PayloadsRead);

/// How many requests of a listener wait for answers at once.
const CONCURRENCY: u32 = 16;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(WRITE, routes!(create))
        .add(WRITE, routes!(end))
        .add(FOLLOW, routes!(follow))
        .add(FOLLOW, routes!(answer))
}

/// Create a listener
///
/// A subscriber whose deliveries are handed to the client that follows `GET /v1/listeners/{id}/requests`, as `postrider listen`
/// does. It is a subscriber like any other, with retries and replays, until its lease ends: a minute after the last stream.
#[utoipa::path(
    post, path = "/v1/listeners", operation_id = "create_listener", tag = "listeners",
    request_body = ListenerRequest,
    responses(
        (status = 201, description = "The listener, with the secret of its subscriber.", body = ListenerView),
        (
            status = 409, description = "There are 20 listeners already.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn create(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: ListenerRequest = body.parse_or_default()?;
    let token = new_token(&**store.ids().random());
    let description = request.description.unwrap_or_else(|| "postrider listen".to_owned());
    let wanted = SubscriberRequest {
        url: Some(listener_url(&token)),
        events: Some(request.events.unwrap_or_else(|| vec!["*".to_owned()])),
        description: Some(description),
        policy: Some(PolicyFields { concurrency: Some(CONCURRENCY), ..PolicyFields::default() }),
        ..SubscriberRequest::default()
    };
    let new = subscribers::validated(wanted, &state)?;
    let secret = SecretView::from(&new.secret);
    // First, so that its subscriber is removed whatever happens in between.
    let Some(id) = store.create_listener(&caller.tenant, &token).await? else {
        let detail = format!("there are {MAX_LISTENERS} listeners already; end one of them");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let subscriber = store.create_subscriber(&caller.tenant, new).await?;
    store.set_listener_subscriber(&caller.tenant, id, subscriber.id).await?;
    let lease_until = (store.ids().clock().now() + LISTENER_LEASE).into();
    let view = ListenerView { id, subscriber_id: subscriber.id, lease_until, secret };
    let path = format!("/v1/listeners/{id}");
    Ok(created(path, Json(view)))
}

/// End a listener
///
/// Its subscriber is deleted, and pending deliveries to it end `cancelled`.
#[utoipa::path(
    delete, path = "/v1/listeners/{id}", operation_id = "end_listener", tag = "listeners",
    params(("id" = String, Path, description = "The listener's id, `lsn_…`.")),
    responses((status = 204, description = "The listener is ended."))
)]
async fn end(
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Listener>,
) -> Result<StatusCode, Problem> {
    if store.end_listener(&caller.tenant, id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

/// Follow the requests of a listener
///
/// A stream of server-sent events. `event: request` has a request as `data`, to be answered with
/// `POST /v1/listeners/{id}/answers` before its time runs out. `end` says why the stream ends: `{"reason": "shutdown"}`, `key`,
/// `replaced` (another stream of the listener was opened) or `ended`. Comments keep the connection alive. While the stream is
/// open, the listener's lease does not end. What was not answered is handed to the next stream again.
#[utoipa::path(
    get, path = "/v1/listeners/{id}/requests", operation_id = "follow_listener", tag = "listeners",
    params(("id" = String, Path, description = "The listener's id, `lsn_…`.")),
    responses((status = 200, description = "Server-sent events.", body = String, content_type = "text/event-stream"))
)]
async fn follow(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    extensions: Extensions,
    PathId(id): PathId<id::Listener>,
) -> Result<Response, Problem> {
    let place = state.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::limited("too many clients follow listeners of this server", Exceeded { retry_after: 5 })
    })?;
    let stream = state.store.ids().next_uuid();
    if !state.store.attend_listener(&caller.tenant, id, stream).await? {
        return Err(missing());
    }
    let closing = state.viewers.closing();
    let follower = Follower { state, caller, headers, extensions, id, stream, closing, place };
    let mut response = follower.into_body().into_response();
    let content_type = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    // For proxies that would gather the answer.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Answer a request of a listener
///
/// With a response, or with the reason why there is none. The answer becomes the result of the attempt.
#[utoipa::path(
    post, path = "/v1/listeners/{id}/answers", operation_id = "answer_listener", tag = "listeners",
    params(("id" = String, Path, description = "The listener's id, `lsn_…`.")),
    request_body = ListenerAnswerRequest,
    responses(
        (status = 204, description = "The answer is taken."),
        (
            status = 409, description = "The attempt does not wait any more.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn answer(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(listener): PathId<id::Listener>,
    body: JsonBody,
) -> Result<StatusCode, Problem> {
    let request = body.parse()?;
    // Before the fields are judged: an unknown id is answered alike whatever they say.
    state.store.listener(&caller.tenant, listener).await?.ok_or_else(missing)?;
    let (id, answer) = answer::checked(request)?;
    let handover = Handover { tenant: caller.tenant, listener, id };
    if state.store.answer_handover(&handover, &answer).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = "the attempt does not wait any more: its time ran out, or it was answered";
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

fn missing() -> Problem {
    Problem::missing("object")
}
