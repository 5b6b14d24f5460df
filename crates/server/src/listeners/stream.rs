//! The stream of a listener's requests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Extensions, HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use postrider_api::attempt::HeaderView;
use postrider_api::listener::ListenerDeliveryView;
use postrider_core::{EventId, EventType, ListenerId, chain};
use postrider_store::StoreError;
use postrider_store::listeners::HandoverRequest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::FOLLOW;
use crate::auth;
use crate::caller::Caller;
use crate::state::ApiState;

/// How often requests are read.
const POLL: Duration = Duration::from_millis(50);
/// How often the lease is extended, and the key checked.
const EXTEND_EACH: Duration = Duration::from_secs(2);
/// After how long without a request a comment is sent.
const QUIET: Duration = Duration::from_secs(15);

/// What begins the stream: something, so that proxies pass it on.
const BEGINNING: Bytes = Bytes::from_static(b": connected\nretry: 1000\n\n");
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// A client that follows a listener.
pub(super) struct Follower {
    pub(super) state: ApiState,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) id: ListenerId,
    /// The stream, among those of the listener.
    pub(super) stream: Uuid,
    /// Whether the server stops.
    pub(super) closing: watch::Receiver<bool>,
    /// The place among the streams of this server.
    #[allow(dead_code, reason = "held until dropped")]
    pub(super) place: OwnedSemaphorePermit,
}

struct Following {
    follower: Follower,
    frames: VecDeque<Bytes>,
    is_over: bool,
    extended_at: Instant,
    sent_at: Instant,
}

/// What a worker writes beside the body.
#[derive(Deserialize)]
struct Head {
    method: String,
    headers: Vec<(String, String)>,
    event_id: EventId,
    event: EventType,
    attempt: u32,
}

impl Follower {
    pub(super) fn into_body(self) -> Body {
        let now = Instant::now();
        let following = Following {
            follower: self,
            frames: VecDeque::from([BEGINNING]),
            is_over: false,
            extended_at: now,
            sent_at: now,
        };
        Body::from_stream(stream::unfold(following, |mut following| async move {
            let frame = following.next().await?;
            following.sent_at = Instant::now();
            Some((Ok::<_, Infallible>(frame), following))
        }))
    }
}

impl Following {
    /// The next part of the response; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.is_over {
                return None;
            }
            if *self.follower.closing.borrow() {
                return Some(self.end("shutdown"));
            }
            if self.extended_at.elapsed() >= EXTEND_EACH {
                self.extended_at = Instant::now();
                if let Some(reason) = self.must_end().await {
                    return Some(self.end(reason));
                }
            }
            match self.read().await {
                Ok(frames) => self.frames = frames,
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "requests of a listener not read; it will be repeated");
                }
            }
            if self.frames.is_empty() {
                if self.sent_at.elapsed() >= QUIET {
                    return Some(KEEP_ALIVE);
                }
                tokio::select! {
                    () = sleep(POLL) => {}
                    // An error: the server is gone.
                    _ = self.follower.closing.changed() => {}
                }
            }
        }
    }

    fn end(&mut self, reason: &str) -> Bytes {
        self.is_over = true;
        frame("end", &json!({"reason": reason}))
    }

    async fn read(&self) -> Result<VecDeque<Bytes>, StoreError> {
        let Follower { state, caller, id, .. } = &self.follower;
        let taking = state.store.take_handovers(&caller.tenant, *id);
        let taken = state.store.database().answered(taking).await?;
        Ok(taken.into_iter().filter_map(|request| Some(frame("request", &view(request)?))).collect())
    }

    /// Extends the lease. Returns why the stream must end.
    async fn must_end(&self) -> Option<&'static str> {
        let Follower { state, headers, extensions, caller, id, stream, .. } = &self.follower;
        match auth::actor(state, headers, extensions).await {
            Ok(actor) => match auth::caller(actor, Some(FOLLOW), headers) {
                Ok(now) if now.tenant == caller.tenant => {}
                _ => return Some("key"),
            },
            // Nobody knows while the database is unavailable.
            Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => return None,
            Err(_) => return Some("key"),
        }
        let extending = state.store.extend_listener(&caller.tenant, *id, *stream);
        if !matches!(state.store.database().answered(extending).await, Ok(false)) {
            return None;
        }
        let reading = state.store.listener(&caller.tenant, *id);
        match state.store.database().answered(reading).await {
            Ok(Some(_)) => Some("replaced"),
            Ok(None) => Some("ended"),
            Err(_) => None,
        }
    }
}

/// A request as the client gets it; `None` if a worker of another version has written something else.
fn view(request: HandoverRequest) -> Option<ListenerDeliveryView> {
    let head = Head::deserialize(&request.head);
    let head = head.inspect_err(|error| {
        tracing::warn!(%error, "a worker hands something to a listener that this server does not know");
    });
    let Head { method, headers, event_id, event, attempt } = head.ok()?;
    Some(ListenerDeliveryView {
        id: request.id,
        method,
        headers: headers.into_iter().map(|(name, value)| HeaderView { name, value }).collect(),
        body_base64: STANDARD.encode(request.body),
        event_id,
        event_type: event,
        attempt,
        timeout_ms: u64::try_from(request.left.as_millis()).unwrap_or(u64::MAX),
    })
}

/// An event of the stream (HTML, section 9.2). JSON has no line break outside of its strings, which escape them.
fn frame(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    format!("event: {name}\ndata: {data}\n\n").into()
}
