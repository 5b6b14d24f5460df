//! Receiving bodies: within a limit, at a least pace, and before the request takes a place among those that run.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem::Problem;
use crate::room::{Room, SMALL};
use crate::state::ApiState;

/// How much of a body beyond the limit the server still reads, as a multiple of the limit, and for how long. A client
/// that is still sending would otherwise miss the answer.
const DRAIN_TIMES: usize = 4;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long a client may take to send the first byte of a body, or fall behind the pace.
const SLACK: Duration = Duration::from_secs(5);

/// The time that one byte gains its client: a body must arrive at 16 KiB a second.
const TIME_PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / (16 * 1024));

/// A body, and the room that it takes if it is large.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<Arc<Room>>,
}

/// The most bytes of a body, on a route that takes larger ones than others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(pub(crate) usize);

/// Receives the body of a request, and leaves it in the request's extensions.
///
/// # Errors
/// 408 if the client is too slow, 413 if the body is too large, 415 if it is encoded, 400 if it ends too soon, and 503 if
/// there is no room for it.
pub(crate) async fn received(state: &ApiState, request: Request) -> Result<Request, Problem> {
    let (mut parts, mut body) = request.into_parts();
    if !body.is_end_stream() {
        plain(&parts.headers)?;
        let limit = parts.extensions.get().map_or(state.config.body_limit, |Limit(limit)| *limit);
        let received = read(&parts.headers, &mut body, limit, state).await?;
        parts.extensions.insert(received);
    }
    Ok(Request::from_parts(parts, Body::empty()))
}

/// Refuses an encoded body.
fn plain(headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "send the body without `Content-Encoding`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// Reads a body. If its length is announced, there is room for it before anything is read.
async fn read(
    headers: &HeaderMap,
    body: &mut Body,
    limit: usize,
    state: &ApiState,
) -> Result<Received, Problem> {
    let announced = announced(headers);
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body exceeds the limit of {limit} bytes"))
    };
    // A client that sent `Expect` (RFC 9110, section 10.1.1) has not sent the body yet.
    let is_sending = !headers.contains_key(header::EXPECT);
    if announced.is_some_and(|announced| announced > limit) {
        if is_sending {
            drain(body, limit).await;
        }
        return Err(too_large());
    }
    let mut room = None;
    if let Some(bytes) = announced {
        match state.memory.room(bytes).await {
            Ok(taken) => room = Some(taken),
            Err(problem) => {
                if is_sending {
                    drain(body, bytes).await;
                }
                return Err(problem);
            }
        }
    }
    let mut started = Instant::now();
    let longest = state.config.request_timeout;
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0));
    loop {
        let gained = TIME_PER_BYTE.saturating_mul(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let until = started + longest.min(SLACK + gained);
        let frame = timeout_at(until, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "the body is incomplete");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            drain(body, limit).await;
            return Err(too_large());
        }
        if room.is_none() && bytes.len() + data.len() > SMALL {
            let waiting = Instant::now();
            room = Some(state.memory.room(limit).await?);
            // The client is not to blame for this wait.
            started += waiting.elapsed();
        }
        bytes.extend_from_slice(&data);
    }
    if let Some(room) = room.as_mut().filter(|_| announced.is_none()) {
        room.shrink_to(bytes.len());
    }
    Ok(Received { bytes: bytes.freeze(), room: room.filter(Room::counts).map(Arc::new) })
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "the body arrived too slowly; nothing was done, so the request can be sent again",
    )
}

/// The length of the body, if the request announces it.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what a client is still sending, so that it does not miss the answer.
async fn drain(body: &mut Body, limit: usize) {
    let most = limit.saturating_mul(DRAIN_TIMES);
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > most {
                break;
            }
        }
    };
    // The answer is the same whether or not the client finished in time.
    let _ = timeout(DRAIN_TIME, reading).await;
}
