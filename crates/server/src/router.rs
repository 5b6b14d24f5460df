//! All routes.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::Bytes;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::auth::admit;
use crate::limits::{bounded, no_method, no_route};
use crate::observe::observed;
use crate::pressure::shed;
use crate::state::{ApiState, Parts};
use crate::{Config, dead_letters, deliveries, docs, events, openapi, stats, subscribers};

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
        .route_layer(middleware::from_fn_with_state(state.clone(), bounded))
        // Before waiting for room, which those may hold that wait for a slow database.
        .route_layer(middleware::from_fn_with_state(state.clone(), shed))
        .route_layer(middleware::from_fn_with_state(state.clone(), admit))
        .with_state(state);
    let description = Bytes::from(openapi::complete(description));
    api.merge(telemetry)
        .route("/openapi.json", get(described).with_state(description))
        .merge(docs::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(observed))
}

async fn described(State(description): State<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], description).into_response()
}
