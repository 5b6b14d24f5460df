//! Attempts, with the receivers' responses byte for byte.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_api::attempt::{
    AttemptErrorView, AttemptList, AttemptView, AttemptsQuery, BodyEncoding, HeaderView, RequestView,
    ResponseView, TimingsView,
};
use postrider_api::event::PayloadGone;
use postrider_core::key::Scope;
use postrider_core::{Verdict, id};
use postrider_store::deliveries::RecordedAttempt;
use postrider_store::exchange::{Exchange, Phases, SentRequest, SentValue};

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{Parameters, PathId};
use crate::page;
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) fn attempt_view(attempt: RecordedAttempt) -> AttemptView {
    let (error, flaw) = match attempt.verdict {
        Verdict::Success => (None, None),
        Verdict::SuccessWithNote(note) => (None, Some(note)),
        Verdict::Failure { kind, detail } => (Some(AttemptErrorView { kind, message: detail }), None),
    };
    let advice = error.as_ref().map(|error| error.kind.advice().to_owned());
    let (request, remote_addr, timings_ms, note) = match attempt.exchange {
        Some(Exchange { request, remote, phases, resent: _, note }) => (
            Some(request_view(request)),
            remote.map(|remote| remote.to_string()),
            Some(timings_view(phases)),
            note,
        ),
        None => (None, None, None, None),
    };
    let notes: Vec<_> = flaw.into_iter().chain(note).collect();
    let (body, body_encoding) = readable(&attempt.response_body);
    let headers = attempt.response_headers.into_iter();
    let response = attempt.response_status.map(|status| ResponseView {
        status,
        headers: headers.map(|(name, value)| HeaderView { name, value }).collect(),
        body,
        body_encoding,
        truncated: attempt.response_truncated,
        payload: None,
    });
    AttemptView {
        id: attempt.id,
        number: attempt.number,
        started_at: attempt.started_at.into(),
        duration_ms: millis(attempt.duration),
        request,
        remote_addr,
        timings_ms,
        resent: attempt.resent,
        response,
        error,
        advice,
        note: if notes.is_empty() { None } else { Some(notes.join("; ")) },
    }
}

fn request_view(request: SentRequest) -> RequestView {
    let shown = |value| match value {
        SentValue::Shown(value) => value,
        SentValue::Masked => "***".to_owned(),
    };
    let headers = request.headers.into_iter();
    RequestView {
        url: request.url,
        method: request.method,
        headers: headers.map(|(name, value)| HeaderView { name, value: shown(value) }).collect(),
        body_sha256: hex::encode(request.body_sha256),
        transform_version: request.transform.map(|version| version.to_string()),
        secret_version: request.versions.map(|versions| hex::encode(versions.secret)),
        policy_version: request.versions.map(|versions| versions.policy.to_string()),
    }
}

fn timings_view(phases: Phases) -> TimingsView {
    let Phases { resolve, connect, tls, first_byte, body } = phases;
    TimingsView {
        resolve: resolve.map(millis),
        connect: connect.map(millis),
        tls: tls.map(millis),
        first_byte: first_byte.map(millis),
        body: body.map(millis),
    }
}

/// An attempt for a key that may not read payloads.
pub(crate) fn hidden(attempt: AttemptView) -> AttemptView {
    let response = attempt.response.map(|response| ResponseView {
        headers: Vec::new(),
        body: String::new(),
        body_encoding: BodyEncoding::Utf8,
        payload: Some(PayloadGone::Hidden),
        ..response
    });
    AttemptView { response, ..attempt }
}

/// Milliseconds with three decimal places.
fn millis(duration: Duration) -> f64 {
    // An attempt takes at most a minute, so its microseconds fit.
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

/// Bytes in a form that JSON can hold without loss.
fn readable(bytes: &Bytes) -> (String, BodyEncoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), BodyEncoding::Utf8),
        Err(_) => (STANDARD.encode(bytes), BodyEncoding::Base64),
    }
}

/// List the attempts of a delivery
///
/// Newest first. A page of large responses ends early; its `next_cursor` leads on. Without the scope `payloads:read` the
/// headers and the body of each response are empty, and its `payload` is `hidden`.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts", operation_id = "list_attempts", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`."), AttemptsQuery),
    responses((status = 200, description = "A page of attempts.", body = AttemptList))
)]
pub(super) async fn list_attempts(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
    Parameters(query): Parameters<AttemptsQuery>,
) -> Result<Json<AttemptList>, Problem> {
    super::reach(&state, &caller, id, "delivery").await?;
    let page = page::request(query.limit, query.cursor);
    let attempts = state.store.attempts(&caller.tenant, id, page).await?;
    // Distinguishes a delivery without attempts from one that does not exist.
    if attempts.items.is_empty() && state.store.delivery(&caller.tenant, id).await?.is_none() {
        return Err(Problem::missing("delivery"));
    }
    let is_hidden = !caller.may(Scope::PayloadsRead);
    if state.config.audit_payloads && !is_hidden {
        store.audit_read(&caller.tenant, id).await?;
    }
    let view = |attempt| if is_hidden { hidden(attempt_view(attempt)) } else { attempt_view(attempt) };
    Ok(Json(page::list(attempts, view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_without_loss() {
        assert_eq!(readable(&"a\0é".into()), ("a\0é".to_owned(), BodyEncoding::Utf8));
        assert_eq!(readable(&Bytes::from_static(b"\xff\x00")), ("/wA=".to_owned(), BodyEncoding::Base64));
    }
}
