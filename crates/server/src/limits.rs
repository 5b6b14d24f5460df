//! How much of the server a request may use.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::problem::Problem;
use crate::state::ApiState;

/// Works on so many requests at once, each for so long. Those that wait have not had their bodies
/// read, so that memory is bounded too.
pub(crate) async fn bounded(state: &ApiState, work: impl Future<Output = Response>) -> Response {
    let working = async {
        // Never closed: an error cannot be, and would only mean that there is no bound.
        let _room = state.room.acquire().await.ok();
        work.await
    };
    match timeout(state.config.request_timeout, working).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the request took too long and may or may not have been carried out; \
             repeat it, an event with its `id` or `Idempotency-Key`",
        )
        .into_response(),
    }
}

/// There is nothing at the path.
pub(crate) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; /docs shows what there is")
}

/// There is something at the path, but not for the method.
pub(crate) async fn no_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not have this method; see `Allow`")
}
