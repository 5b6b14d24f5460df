//! Attempts: what was answered, byte for byte.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_core::{Verdict, id};
use postrider_store::history::Attempt;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::extract::PathId;
use crate::moment::Moment;
use crate::page::List;
use crate::problem::Problem;
use crate::state::ApiState;

/// One HTTP request of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptView {
    /// Its id.
    #[schema(example = "att_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Which one it was, from 1.
    number: u32,
    /// When it began.
    started_at: Moment,
    /// How long it took in all.
    #[schema(example = 12.5)]
    duration_ms: f64,
    /// What was answered; null if nothing was.
    response: Option<ResponseView>,
    /// Why it failed; null if it succeeded.
    error: Option<ErrorView>,
    /// What was odd about an answer that counts as success, such as a body without an end; null if nothing was.
    note: Option<String>,
}

/// What was answered.
#[derive(Debug, Serialize, ToSchema)]
struct ResponseView {
    /// The HTTP status.
    #[schema(example = 200)]
    status: u16,
    /// The headers in their order. A byte of a value that is not ASCII is the character of that number.
    headers: Vec<HeaderView>,
    /// The beginning of the body.
    body: String,
    /// How the body is written here: `utf-8` as it is, or `base64` if it is no text.
    #[schema(example = "utf-8")]
    body_encoding: &'static str,
    /// Whether there was more of the body.
    truncated: bool,
}

/// A header of an answer.
#[derive(Debug, Serialize, ToSchema)]
struct HeaderView {
    /// Its name, in lower case.
    name: String,
    /// Its value.
    value: String,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorView {
    /// The kind of failure: `status`, `dns`, `blocked`, `connect`, `tls_expired`, `timeout_headers`, `reset`, …
    #[schema(example = "status")]
    kind: &'static str,
    /// What happened, in words.
    message: String,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let (error, note) = match attempt.verdict {
            Verdict::Success => (None, None),
            Verdict::SuccessWithNote(note) => (None, Some(note)),
            Verdict::Failure { kind, detail } => {
                (Some(ErrorView { kind: kind.as_str(), message: detail }), None)
            }
        };
        let (body, body_encoding) = readable(&attempt.response_body);
        let headers = attempt.response_headers.into_iter();
        let response = attempt.response_status.map(|status| ResponseView {
            status,
            headers: headers.map(|(name, value)| HeaderView { name, value }).collect(),
            body,
            body_encoding,
            truncated: attempt.response_truncated,
        });
        Self {
            id: attempt.id.to_string(),
            number: attempt.number,
            started_at: attempt.started_at.into(),
            duration_ms: millis(attempt.duration),
            response,
            error,
            note,
        }
    }
}

/// Milliseconds with three digits after the point.
fn millis(duration: Duration) -> f64 {
    // An attempt takes a minute at most: far from where this would lose a digit.
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

/// Bytes as JSON can hold them without loss.
fn readable(bytes: &Bytes) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (STANDARD.encode(bytes), "base64"),
    }
}

/// List the attempts of a delivery
///
/// Newest first, all on one page.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts", operation_id = "list_attempts", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id, `dlv_…`.")),
    responses((status = 200, description = "The attempts.", body = List<AttemptView>))
)]
pub(super) async fn list_attempts(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Delivery>,
) -> Result<Json<List<AttemptView>>, Problem> {
    let attempts = state.store.attempts(&caller.tenant, id).await?;
    // A delivery that was not attempted yet is not the same as none.
    if attempts.is_empty() && state.store.delivery(&caller.tenant, id).await?.is_none() {
        return Err(Problem::missing("delivery"));
    }
    Ok(Json(List::whole(attempts.into_iter().rev().map(AttemptView::from).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_without_loss() {
        assert_eq!(readable(&"a\0é".into()), ("a\0é".to_owned(), "utf-8"));
        assert_eq!(readable(&Bytes::from_static(b"\xff\x00")), ("/wA=".to_owned(), "base64"));
    }
}
