//! Checking the answers of listeners.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_api::listener::ListenerAnswerRequest;
use postrider_core::HandoverId;
use serde_json::{Value, json};

use crate::problem::{Errors, Problem};

/// The most headers of a response, bytes of them, and bytes of its body.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;

/// The request that is answered, and the answer as the worker reads it.
pub(super) fn checked(request: ListenerAnswerRequest) -> Result<(HandoverId, Value), Problem> {
    let mut errors = Errors::default();
    let id = errors.require("id", request.id);
    let id = id.and_then(|id| errors.check("id", id.parse::<HandoverId>()));
    if request.status.is_some() == request.error.is_some() {
        errors.add("status", "give either `status` or `error`");
    }
    if request.status.is_some_and(|status| !(200..=999).contains(&status)) {
        errors.add("status", "must be between 200 and 999");
    }
    let headers = request.headers.unwrap_or_default();
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        errors.add("headers", "must be at most 100 headers of 16 KiB in all");
    }
    let body = request.body_base64.unwrap_or_default();
    match STANDARD.decode(&body) {
        Ok(decoded) if decoded.len() > MAX_BODY => errors.add("body_base64", "must be at most 64 KiB"),
        Ok(_) => {}
        Err(_) => errors.add("body_base64", "must be base64"),
    }
    let id = errors.finish(id)?;
    let answer = match request.error {
        Some(kind) => json!({"error": kind}),
        None => json!({"status": request.status, "headers": headers, "body_base64": body}),
    };
    Ok((id, answer))
}
