//! All routes.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::Bytes;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::limits::{no_method, no_route};
use crate::observe::observed;
use crate::state::{ApiState, Parts};
use crate::{
    Config, auth, dead_letters, deliveries, docs, events, limits, openapi, pressure, stats, subscribers,
};

/// The API, to be served by [`Server`](crate::Server) or by an application beside its own routes.
pub fn router(config: Config, parts: Parts) -> Router {
    let telemetry = parts.telemetry.clone();
    let state = ApiState::new(config, parts);
    let (api, description) = OpenApiRouter::with_openapi(openapi::Api::openapi())
        .merge(events::routes())
        .merge(subscribers::routes())
        .merge(deliveries::routes())
        .merge(dead_letters::routes())
        .merge(stats::routes())
        .split_for_parts();
    let api = api
        // Before routing fails for the method, so that both need the key.
        .method_not_allowed_fallback(no_method)
        .route_layer(middleware::from_fn_with_state(state.clone(), enter))
        .with_state(state);
    let description = Bytes::from(openapi::complete(description));
    api.merge(telemetry)
        .route("/openapi.json", get(described).with_state(description))
        .merge(docs::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(observed))
}

/// One layer for all that comes before a route, since each costs an allocation of all that is in it.
async fn enter(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let let_in = auth::caller(&state, request.headers()).and_then(|caller| {
        tracing::Span::current().record("postrider.tenant.id", caller.tenant.as_str());
        request.extensions_mut().insert(caller);
        // Before waiting for room, which those may hold that wait for a slow database.
        pressure::let_in(&state, &request)
    });
    let mut response = match let_in {
        Ok(()) => limits::bounded(&state, next.run(request)).await,
        Err(problem) => problem.into_response(),
    };
    // Answers hold secrets and what changes at any moment.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn described(State(description): State<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], description).into_response()
}
