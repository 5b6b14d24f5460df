//! Requests with an `Idempotency-Key` that change something. They are carried out once, and repeats get the same answer.
//!
//! Events have keys of their own, which belong to the tenant (`events`).

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use postrider_core::TenantId;
use postrider_core::key::KeyHash;
use postrider_dispatch::IdempotencyKey;
use postrider_store::Store;
use postrider_store::audit::Auditor;
use postrider_store::request_keys::{RequestKey, TakenKey};
use serde::{Deserialize, Serialize};

use crate::body::Received;
use crate::events::IDEMPOTENCY_KEY;
use crate::needs::{Needs, Trail};
use crate::problem::Problem;

/// Marks the answer to a repeat.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The largest answer that is kept. All are far smaller.
const MAX_ANSWER: usize = 1024 * 1024;

/// The key of a request that changes something, if it has one.
pub(crate) fn key(
    request: &Request,
    needs: Option<Needs>,
    store: &Store,
    tenant: &TenantId,
    actor: &str,
) -> Result<Option<RequestKey>, Problem> {
    let changes =
        request.method() == Method::POST && needs.is_some_and(|needs| needs.trail == Trail::Changes);
    let Some(value) = request.headers().get(IDEMPOTENCY_KEY).filter(|_| changes) else { return Ok(None) };
    let key = IdempotencyKey::parse(value.to_str().unwrap_or_default());
    let key = key.map_err(|error| Problem::field("Idempotency-Key", &error))?;
    let token = store.ids().next_uuid();
    Ok(Some(RequestKey::new(tenant.clone(), actor.to_owned(), key.as_str().to_owned(), token)))
}

/// An answer that is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    body: String,
}

/// Carries a request out, or answers a repeat of it.
pub(crate) async fn run(store: &Store, request: Request, next: Next) -> Response {
    let auditor = request.extensions().get::<Arc<Auditor>>();
    let Some(key) = auditor.and_then(|auditor| auditor.request_key.clone()) else {
        return next.run(request).await;
    };
    match store.take_request_key(&key, &hash(&request)).await {
        Ok(TakenKey::New) => {}
        Ok(TakenKey::Answered(answer)) => return replayed(&answer),
        Ok(TakenKey::Running) => {
            let detail =
                "a request with this `Idempotency-Key` is being carried out; repeat it a little later";
            return Problem::new(StatusCode::CONFLICT, detail).into_response();
        }
        Ok(TakenKey::AnswerLost) => {
            let detail = "the request with this `Idempotency-Key` was carried out, but its answer is lost; read what it changed";
            return Problem::new(StatusCode::CONFLICT, detail).into_response();
        }
        Ok(TakenKey::Other) => {
            let detail = "this `Idempotency-Key` was used for another request; choose a new one";
            return Problem::new(StatusCode::CONFLICT, detail).into_response();
        }
        Err(error) => return Problem::from(error).into_response(),
    }
    kept(store, &key, next.run(request).await).await
}

/// Keeps the answer of a request that was carried out. After any other answer the key can be used again, unless the
/// change was committed.
async fn kept(store: &Store, key: &RequestKey, response: Response) -> Response {
    if !response.status().is_success() {
        if let Err(error) = store.give_back_request_key(key).await {
            tracing::debug!(error = %postrider_core::chain(&error), "idempotency key not given back; it expires");
        }
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
        tracing::error!("an answer was too large to be kept");
        return Problem::internal().into_response();
    };
    let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let kept = Kept {
        status: parts.status.as_u16(),
        location: location.map(str::to_owned),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let keeping = async {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
        store.keep_answer(key, &text).await
    };
    if let Err(error) = keeping.await {
        // A repeat gets 409, which says so.
        tracing::warn!(error = %postrider_core::chain(&error), "the answer to a request with an idempotency key was not kept");
    }
    Response::from_parts(parts, Body::from(body))
}

fn replayed(answer: &[u8]) -> Response {
    let Ok(Kept { status, location, body }) = serde_json::from_slice(answer) else {
        tracing::error!("a kept answer is not readable");
        return Problem::internal().into_response();
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, body.clone()).into_response();
    let headers = response.headers_mut();
    if body.is_empty() {
        headers.remove(header::CONTENT_TYPE);
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The hash of what a request asks for.
fn hash(request: &Request) -> [u8; 32] {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let body = request.extensions().get::<Received>().map_or(&[][..], |received| &received.bytes);
    let mut text = Vec::with_capacity(target.len() + 1 + body.len());
    text.extend_from_slice(target.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(body);
    *KeyHash::of(&text).as_bytes()
}
