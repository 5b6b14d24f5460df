//! Limits of a single request, and the answers for unknown paths and methods.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::problem::Problem;
use crate::state::ApiState;

/// Runs a request within the limits on concurrency and time. A request that waits for its turn has not had its body
/// read, so that memory is bounded too.
pub(crate) async fn bounded(state: &ApiState, work: impl Future<Output = Response>) -> Response {
    let working = async {
        // The semaphore is never closed. If it were, requests would run unbounded rather than fail.
        let _permit = state.permits.acquire().await.ok();
        work.await
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
