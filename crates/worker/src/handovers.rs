//! Attempts that are handed to listeners.
//!
//! An attempt writes its request into the database, and waits for the answer until its deadline, as it waits for a receiver: it
//! keeps its worker slot, and its lease is extended. One task reads the answers for all attempts of this worker, while there
//! are any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use postrider_core::{ErrorKind, HandoverId, chain};
use postrider_database::comes_from_trouble;
use postrider_delivery::{Failure, Request, Response, Sent, Timings, Trail};
use postrider_store::listeners::{Handover, HandoverState};
use postrider_store::loading::Work;
use postrider_store::{Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::shared::Shared;
use crate::transport::{deadline, headers};

/// How often answers are read.
const POLL: Duration = Duration::from_millis(50);

/// How long a request waits for a stream to take it. A stream that has broken comes back within that time.
const UNTAKEN: Duration = Duration::from_secs(5);

/// The attempts of this worker that wait.
#[derive(Debug)]
pub(crate) struct Handovers {
    store: Store,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    all: HashMap<HandoverId, Waiter>,
    /// Whether the task runs that reads answers.
    reading: bool,
}

#[derive(Debug)]
struct Waiter {
    handover: Handover,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What has become of a request.
#[derive(Debug)]
enum Answer {
    Given(Value),
    /// No stream has taken it, or its listener has ended.
    Untaken,
}

/// Hands a request to the listener with this token, and waits for its answer.
pub(crate) async fn send(
    shared: &Shared,
    work: &Work,
    token: &str,
    request: &Request,
) -> Result<Sent, StoreError> {
    let started = Instant::now();
    let deadline = deadline(shared, request, started);
    let head = json!({
        "method": request.method.as_str(),
        "headers": headers(request),
        "event_id": work.delivery.event_id,
        "event": work.delivery.event_type,
        "attempt": work.delivery.attempts + 1,
    });
    let store = &shared.store;
    let left = deadline.saturating_duration_since(Instant::now());
    let handing = store.hand_over(&work.delivery.tenant, token, &head, &request.body, left);
    let Some(handover) = store.database().answered(handing).await? else {
        return Ok(sent(started, Err(Failure::unattended())));
    };
    let ended = End { store: store.clone(), handover: Some(handover.clone()) };
    let answer = timeout_at(deadline, shared.handovers.wait(handover)).await;
    ended.now().await;
    let result = match answer {
        Err(_) => Err(Failure::of_receiver(ErrorKind::TimeoutHeaders)),
        Ok(None | Some(Answer::Untaken)) => Err(Failure::unattended()),
        Ok(Some(Answer::Given(answer))) => received(&answer, shared.client.response_limit()),
    };
    Ok(sent(started, result))
}

fn sent(started: Instant, result: Result<Response, Failure>) -> Sent {
    let timings = Timings { first_byte: Some(started.elapsed()), ..Timings::default() };
    Sent { duration: started.elapsed(), result, trail: Trail { timings, ..Trail::default() } }
}

/// Reads an answer, which the server has checked.
fn received(answer: &Value, limit: usize) -> Result<Response, Failure> {
    if let Some(kind) = answer.get("error").and_then(Value::as_str) {
        return Err(Failure::of_receiver(kind.parse().unwrap_or(ErrorKind::Protocol)));
    }
    let invalid = || Failure::of_receiver(ErrorKind::Protocol);
    let status = answer.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(invalid)?;
    let mut headers = HeaderMap::new();
    for pair in answer.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let part = |key| pair.get(key).and_then(Value::as_str).unwrap_or_default();
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(part("name")), HeaderValue::try_from(part("value")))
        {
            headers.append(name, value);
        }
    }
    let body = answer.get("body_base64").and_then(Value::as_str).unwrap_or_default();
    let body = Bytes::from(STANDARD.decode(body).map_err(|_| invalid())?);
    let truncated = body.len() > limit;
    let body = body.slice(..body.len().min(limit));
    Ok(Response { truncated, ..Response::received(status, &headers, body, None) })
}

impl Handovers {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Waits for an answer; `None` if it cannot be read any more.
    async fn wait(&self, handover: Handover) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let id = handover.id;
        let _place = Place { waiting: Arc::clone(&self.waiting), id };
        let starts = {
            let mut waiting = lock(&self.waiting);
            waiting.all.insert(id, Waiter { handover, since: Instant::now(), answer });
            !std::mem::replace(&mut waiting.reading, true)
        };
        if starts {
            tokio::spawn(read(self.store.clone(), Arc::clone(&self.waiting)));
        }
        answered.await.ok()
    }
}

/// Reads answers until nobody waits.
async fn read(store: Store, waiting: Arc<Mutex<Waiting>>) {
    loop {
        sleep(POLL).await;
        let asked: Vec<Handover> = {
            let mut waiting = lock(&waiting);
            if waiting.all.is_empty() {
                waiting.reading = false;
                return;
            }
            waiting.all.values().map(|waiter| waiter.handover.clone()).collect()
        };
        let states = match store.database().answered(store.handover_states(&asked)).await {
            Ok(states) => states,
            Err(error) => {
                if !comes_from_trouble(&error) {
                    tracing::debug!(error = %chain(&error), "answers of listeners not read; it will be repeated");
                }
                continue;
            }
        };
        let mut states: HashMap<_, _> = states.into_iter().collect();
        let mut waiting = lock(&waiting);
        for Handover { id, .. } in asked {
            let Some(waiter) = waiting.all.get(&id) else { continue };
            let answer = match states.remove(&id) {
                Some(HandoverState::Answered(answer)) => Answer::Given(answer),
                Some(HandoverState::Taken) => continue,
                Some(HandoverState::Waiting) if waiter.since.elapsed() < UNTAKEN => continue,
                Some(HandoverState::Waiting) | None => Answer::Untaken,
            };
            if let Some(waiter) = waiting.all.remove(&id) {
                // The attempt may have ended in between.
                let _ = waiter.answer.send(answer);
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of an attempt among those that wait, until it is dropped.
struct Place {
    waiting: Arc<Mutex<Waiting>>,
    id: HandoverId,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.waiting).all.remove(&self.id);
    }
}

/// Removes a request from the database at the end of its attempt, also if the attempt is given up.
struct End {
    store: Store,
    handover: Option<Handover>,
}

impl End {
    async fn now(mut self) {
        if let Some(handover) = self.handover.take() {
            end(&self.store, &handover).await;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Without a runtime the process ends, and upkeep removes the row.
        if let (Some(handover), Ok(runtime)) = (self.handover.take(), tokio::runtime::Handle::try_current()) {
            let store = self.store.clone();
            runtime.spawn(async move { end(&store, &handover).await });
        }
    }
}

/// If it fails, upkeep removes the row.
async fn end(store: &Store, handover: &Handover) {
    if let Err(error) = store.database().answered(store.end_handover(handover)).await {
        tracing::debug!(error = %chain(&error), "a request to a listener was not removed");
    }
}
