//! What a sandbox has received: listed, waited for, and judged.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_api::attempt::{BodyEncoding, HeaderView};
use postrider_api::list::Count;
use postrider_api::sandbox::{
    SandboxRequestList, SandboxRequestView, SandboxRequestsQuery, SandboxSignatureView, Wait,
};
use postrider_core::key::Scope;
use postrider_core::signing::WEBHOOK_ID;
use postrider_core::{SandboxId, TenantId, id};
use postrider_sandbox::{Broken, Expectation};
use postrider_store::Store;
use postrider_store::sandboxes::{MAX_REQUESTS, SandboxRequest};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::missing;
use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{Parameters, PathId};
use crate::problem::Problem;
use crate::rate::Exceeded;
use crate::state::ApiState;

/// The pauses between two looks, which grow.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// What a request needs beside waiting.
const REST: Duration = Duration::from_secs(2);

/// List what a sandbox has received
///
/// Oldest first, up to 200. With `count` and `wait` the answer comes once so many requests have arrived, or after that time
/// with those that have. With `expect` it is 422 if something does not hold, and names the first: `count`, if too few have
/// arrived, or one of the words of `expect`.
///
/// Without the scope `payloads:read` the headers and the bodies are null.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/requests", operation_id = "list_sandbox_requests", tag = "sandboxes",
    params(("id" = String, Path, description = "The sandbox's id, `sbx_…`."), SandboxRequestsQuery),
    responses((status = 200, description = "The requests.", body = SandboxRequestList))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Sandbox>,
    Parameters(query): Parameters<SandboxRequestsQuery>,
) -> Result<Json<SandboxRequestList>, Problem> {
    let expected = expectations(query.expect.as_deref())?;
    let count = query.count.map_or(0, |Count(count)| count);
    if count > MAX_REQUESTS {
        return Err(Problem::field("count", "must be at most 200"));
    }
    let longest = state.config.request_timeout.saturating_sub(REST);
    let wait = query.wait.map_or(Duration::ZERO, |Wait(wait)| wait).min(longest);
    store.sandbox(&caller.tenant, id).await?.ok_or_else(missing)?;
    let received = if wait.is_zero() || count == 0 {
        store.count_sandbox_requests(&caller.tenant, id).await?
    } else {
        let limited = Exceeded { retry_after: 1 };
        let place = state.receivers.waits.try_acquire();
        let _place = place.map_err(|_| Problem::limited("too many clients wait for sandboxes", limited))?;
        waited(&store, &caller.tenant, id, count, wait).await?
    };
    let requests = store.sandbox_requests(&caller.tenant, id, 0, MAX_REQUESTS).await?;
    if let Some(expected) = expected {
        if received < count {
            return Err(Problem::field("count", &format!("{received} of {count} requests have arrived")));
        }
        if let Some(Broken { expectation, detail }) = Expectation::first_broken(&expected, &requests) {
            return Err(unmet(expectation, &detail));
        }
    }
    let shows_payloads = caller.may(Scope::PayloadsRead);
    if shows_payloads && state.config.audit_payloads {
        store.audit_read(&caller.tenant, id).await?;
    }
    let after = query.after.map_or(0, |Count(after)| after);
    let mut data = views(requests, after, shows_payloads);
    data.truncate(query.limit.map_or(usize::MAX, |limit| limit.items().into()));
    Ok(Json(SandboxRequestList { data, received }))
}

/// An expectation that does not hold.
fn unmet(expectation: Expectation, detail: &str) -> Problem {
    let problem = Problem::field(expectation.as_str(), detail);
    debug_assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
    problem
}

fn expectations(text: Option<&str>) -> Result<Option<Vec<Expectation>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let words = text.split(',').map(|word| word.trim().parse());
    words.collect::<Result<_, _>>().map(Some).map_err(|error| Problem::field("expect", &error))
}

/// Waits until so many requests are kept, or the time is over. Returns how many are.
async fn waited(
    store: &Store,
    tenant: &TenantId,
    id: SandboxId,
    count: u32,
    wait: Duration,
) -> Result<u32, Problem> {
    let until = Instant::now() + wait;
    let mut pause = FIRST_PAUSE;
    loop {
        let received = store.count_sandbox_requests(tenant, id).await?;
        let left = until.saturating_duration_since(Instant::now());
        if received >= count || left.is_zero() {
            return Ok(received);
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn views(requests: Vec<SandboxRequest>, after: u32, shows_payloads: bool) -> Vec<SandboxRequestView> {
    let mut before = None;
    let mut views = Vec::with_capacity(requests.len());
    for request in requests {
        let after_ms = before
            .replace(request.received_at)
            .map(|before| u64::try_from(request.received_at.since(before).as_millis()).unwrap_or(u64::MAX));
        if request.number > after {
            views.push(view(request, after_ms, shows_payloads));
        }
    }
    views
}

fn view(request: SandboxRequest, after_ms: Option<u64>, shows_payloads: bool) -> SandboxRequestView {
    let (webhook_id, event_type) = (request.header(WEBHOOK_ID), request.header("x-event-type"));
    let (webhook_id, event_type) = (webhook_id.map(str::to_owned), event_type.map(str::to_owned));
    let verified = request.signatures.iter().all(|signature| signature.valid);
    let (body, body_encoding) = match String::from_utf8(request.body) {
        Ok(text) => (text, BodyEncoding::Utf8),
        Err(error) => (STANDARD.encode(error.as_bytes()), BodyEncoding::Base64),
    };
    let headers = request.headers.into_iter().map(|(name, value)| HeaderView { name, value }).collect();
    let signatures = request.signatures.into_iter().map(|signature| SandboxSignatureView {
        header: signature.header,
        valid: signature.valid,
        reason: signature.reason,
        detail: signature.detail,
    });
    SandboxRequestView {
        number: request.number,
        received_at: request.received_at.into(),
        after_ms,
        method: request.method,
        headers: shows_payloads.then_some(headers),
        body: shows_payloads.then_some(body),
        body_encoding,
        body_size: request.body_size,
        event_type,
        webhook_id,
        verified,
        signatures: signatures.collect(),
        answer: Value::from(&request.step),
    }
}
