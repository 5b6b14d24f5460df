//! The live tail: what happens, as server-sent events.
//!
//! | file | what it holds |
//! |---|---|
//! | `item` | makes what viewers are sent |
//! | `reader` | the one task that reads the database for all of them |
//! | `backlog` | what a viewer has missed who was here before |
//! | `stream` | the response of one viewer |

mod backlog;
mod item;
mod reader;
mod stream;

use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use postrider_api::tail::TailQuery;
use postrider_core::key::Scope;
use utoipa_axum::routes;

use self::stream::Follower;
use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::Parameters;
use crate::named;
use crate::needs::Needs;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;
use crate::viewers::Filter;

pub(crate) const NEEDS: Needs = Needs::scope(Scope::TailRead).for_some_subscribers().with_audited_read();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(NEEDS, routes!(follow))
}

/// Follow what happens
///
/// A stream of server-sent events that ends only when the server stops, the key loses the right to it, or the client goes.
/// `event:` says what the JSON object in `data:` is: `event` is an event as `GET /v1/events` lists it; `attempt` is an attempt
/// with its delivery's `delivery_id`, `event_id`, `event`, `subscriber_id` and `status`; `delivery` is a delivery that has
/// ended, as `GET /v1/deliveries` lists it. An event appears within a second, an attempt within two of the moment at which
/// the first viewer came.
///
/// A viewer gets up to 50 of these a second; after that, `left_out` says how many are missing: `{"count", "reason"}`. `end`
/// says why the stream ends: `{"reason": "shutdown"}` or `{"reason": "key"}`. Comments keep the connection alive.
///
/// A client that sends the last `id:` as `Last-Event-ID` goes on where it stopped, if that was less than five minutes ago;
/// otherwise the stream begins with a `left_out` whose reason is `gap`. It may repeat what it has sent, with the same `id`.
///
/// Without the scope `payloads:read` the headers and bodies of responses are hidden, as in the lists.
#[utoipa::path(
    get, path = "/v1/tail", operation_id = "follow_tail", tag = "tail",
    params(
        TailQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that the client has seen."),
    ),
    responses((status = 200, description = "Server-sent events.", body = String, content_type = "text/event-stream"))
)]
async fn follow(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    headers: HeaderMap,
    extensions: Extensions,
    Parameters(query): Parameters<TailQuery>,
) -> Result<Response, Problem> {
    let subscriber = named::filtered(&store, &caller, query.subscriber_id).await?;
    let filter = Filter::new(query.types.as_deref(), subscriber, query.status)?;
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().parse());
    let last = last.transpose();
    let last = last.map_err(|_| Problem::field("Last-Event-ID", "must be the last `id:` of the stream"))?;
    let shows_payloads = caller.may(Scope::PayloadsRead);
    let (viewer, unread) = state.viewers.join(&caller, filter.clone(), shows_payloads)?;
    if let Some(unread) = unread {
        tokio::spawn(reader::run(unread));
    }
    if shows_payloads && state.config.audit_payloads {
        store.audit_read(&caller.tenant, "tail").await?;
    }
    // At once, so that the first attempts are noted: the reader does it only after a while.
    store.watch_tail(std::slice::from_ref(&caller.tenant)).await?;
    let follower = Follower { state, caller, headers, extensions, filter, last, viewer };
    let mut response = follower.into_body().into_response();
    let content_type = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    // For proxies that would gather the answer.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
