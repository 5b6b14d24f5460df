//! Limits of a single request, and the answers for unknown paths and methods.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::body;
use crate::once;
use crate::problem::Problem;
use crate::state::ApiState;

/// Runs a request within the limits on memory, concurrency and time. Its body is there before it takes a place among the
/// running requests, so that slow clients take none from the others.
pub(crate) async fn bounded(state: &ApiState, request: Request, next: Next) -> Response {
    let request = match body::received(state, request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let working = async {
        // The semaphore is never closed. If it were, requests would run unbounded rather than fail.
        let _permit = state.permits.acquire().await.ok();
        once::run(&state.store, request, next).await
    };
    match timeout(state.config.request_timeout, working).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the request timed out and may have taken effect; repeat it with the same `Idempotency-Key`, or the same `id` of an event",
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
