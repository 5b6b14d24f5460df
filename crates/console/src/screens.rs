//! All screens, one module each.

mod audit;
mod cancelling;
mod curl;
mod dead_letters;
mod deliveries;
mod delivery;
mod diff;
mod envelope;
mod event;
mod event_types;
mod events;
pub(crate) mod exchange;
mod keys;
mod now;
mod queue;
mod replay;
mod replays;
mod search;
mod sessions;
mod settings;
mod sign_in;
mod subscribers;
mod tail;
mod tenants;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use http::StatusCode;

use crate::api::Api;
use crate::assets::asset;
use crate::failure::Failure;
use crate::guard::guarded;
use crate::visit::{Console, Visit};

/// The routes of the console, all of them below `/console`.
pub fn routes(api: Arc<dyn Api>) -> Router {
    let router =
        Router::new().route("/console/assets/{name}", get(asset)).route("/console/{*rest}", get(no_page));
    let router = sign_in::routes(router);
    let router = sessions::routes(router);
    let router = search::routes(router);
    let router = now::routes(router);
    let router = dead_letters::routes(router);
    let router = subscribers::routes(router);
    let router = event_types::routes(router);
    let router = queue::routes(router);
    let router = replays::routes(router);
    let router = keys::routes(router);
    let router = tenants::routes(router);
    let router = audit::routes(router);
    let router = settings::routes(router);
    let router = events::routes(router);
    let router = event::routes(router);
    let router = cancelling::routes(router);
    let router = deliveries::routes(router);
    let router = replay::routes(router);
    let router = delivery::routes(router);
    let router = diff::routes(router);
    let router = curl::routes(router);
    let router = tail::routes(router);
    let router = crate::portal::routes(router);
    router.method_not_allowed_fallback(no_method).layer(middleware::from_fn(guarded)).with_state(api)
}

async fn no_page(visit: Visit) -> Failure {
    Failure::missing(&visit, "There is no such page. The search box finds everything that has an id.")
}

async fn no_method(_: Request) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").into_response()
}

/// Routes of one screen.
type Screen = Router<Console>;
