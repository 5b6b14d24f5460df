//! Limits of a single request, and the answers for unknown paths and methods.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::extract::{announced, drain};
use crate::problem::Problem;
use crate::state::ApiState;

/// Runs a request within the limits on memory, concurrency and time. A request that waits for its turn has not had its
/// body read. One that waits for room takes no place from the others.
pub(crate) async fn bounded(state: &ApiState, mut request: Request, next: Next) -> Response {
    let working = async {
        if let Some(bytes) = announced(request.headers()).filter(|bytes| *bytes <= state.config.body_limit) {
            match state.memory.room(bytes).await {
                Ok(room) if room.counts() => {
                    request.extensions_mut().insert(Arc::new(room));
                }
                Ok(_) => {}
                Err(problem) => {
                    // A client that is still sending would otherwise miss the answer.
                    if !request.headers().contains_key(header::EXPECT) {
                        drain(request.body_mut(), bytes).await;
                    }
                    return problem.into_response();
                }
            }
        }
        // The semaphore is never closed. If it were, requests would run unbounded rather than fail.
        let _permit = state.permits.acquire().await.ok();
        next.run(request).await
    };
    match timeout(state.config.request_timeout, working).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the request timed out and may have taken effect; repeat it, and for an event use an `id` or `Idempotency-Key`",
        )
        .into_response(),
    }
}

/// Answers a path without a route.
pub(crate) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not found; see /docs")
}

/// Answers a method that the path does not have.
pub(crate) async fn no_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; see the header `Allow`")
}
