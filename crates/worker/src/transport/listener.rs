//! Attempts at listeners.
//!
//! An attempt writes its request into the database, and waits for the answer until its deadline, as it waits for a receiver: it
//! keeps its worker slot, and its lease is extended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use postrider_core::ErrorKind;
use postrider_delivery::{Failure, Request, Response, Sent, Timings, Trail};
use postrider_store::StoreError;
use postrider_store::loading::Work;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::request::{deadline, headers};
use crate::handovers::{Answer, End};
use crate::shared::Shared;

/// Hands a request to the listener with this token, and waits for its answer.
pub(super) async fn send(
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
    let ended = End::of(store.clone(), handover.clone());
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
