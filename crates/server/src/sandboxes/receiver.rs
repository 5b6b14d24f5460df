//! `/sandbox/{token}`: a sandbox over HTTP, for programs that are not Postrider's worker.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited};
use postrider_core::inside::is_token;
use postrider_core::script::Ending;
use postrider_sandbox::{Received, Reply, SandboxCall, Sender, receive};
use tokio::time::{sleep, timeout};

use crate::problem::Problem;
use crate::receivers::CloseWithoutAnswer;
use crate::state::ApiState;

/// The largest body. Nobody who sends it has shown a key, and [`MAX_CALLS`](crate::receivers) of them may arrive at once.
const MAX_BODY: usize = 1024 * 1024;

/// How long the first half of a body that is cut has to leave.
const CUT_AFTER: Duration = Duration::from_millis(50);

/// The route. It needs no key: the token is one.
pub(crate) fn routes(state: ApiState) -> Router {
    Router::new().route("/sandbox/{token}", any(answer)).with_state(state)
}

async fn answer(
    State(state): State<ApiState>,
    Path(token): Path<String>,
    method: Method,
    request: Request,
) -> Result<Response, Problem> {
    let missing = || Problem::missing("sandbox");
    if !is_token(&token) {
        return Err(missing());
    }
    let _place = state.receivers.calls.try_acquire().map_err(|_| busy())?;
    let (parts, body) = request.into_parts();
    let body = received(body, &state).await?;
    let call = SandboxCall {
        token: &token,
        sender: Sender::Anybody,
        method: method.as_str(),
        headers: pairs(&parts.headers),
        body: &body,
    };
    let receiving = receive::receive(&state.store, call);
    match state.store.database().answered(receiving).await? {
        Received::Missing => Err(missing()),
        Received::Answered(reply) => Ok(response(reply).await),
    }
}

fn busy() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests to sandboxes run at once; try again")
}

async fn received(body: Body, state: &ApiState) -> Result<Bytes, Problem> {
    let limit = state.config.body_limit.min(MAX_BODY);
    let reading = Limited::new(body, limit).collect();
    let read = timeout(state.config.request_timeout, reading).await;
    let read =
        read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))?;
    let unread = |_| {
        let detail = format!("the body is incomplete, or exceeds the limit of {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    Ok(read.map_err(unread)?.to_bytes())
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

async fn response(reply: Reply) -> Response {
    sleep(reply.delay).await;
    let Reply { status, headers, body, delay: _, ending } = reply;
    let length = body.len();
    let body = match ending {
        Ending::Complete => Body::from(body),
        Ending::Cut => {
            let half = Bytes::from(body).slice(..length / 2);
            Body::from_stream(stream::unfold(Some(half), |half| async {
                let Some(half) = half else {
                    // An error at once would close the connection before the first half is sent.
                    sleep(CUT_AFTER).await;
                    return Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None));
                };
                Some((Ok(half), None))
            }))
        }
        Ending::Reset => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if ending == Ending::Reset {
        response.extensions_mut().insert(CloseWithoutAnswer);
        return response;
    }
    let all = response.headers_mut();
    if length > 0 {
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static(Reply::CONTENT_TYPE));
        all.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            all.insert(name, value);
        }
    }
    response.into_response()
}
