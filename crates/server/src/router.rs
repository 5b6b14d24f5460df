//! All routes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use postrider_core::TenantId;
use postrider_store::audit::Auditor;

use crate::caller::{Actor, Caller};
use crate::config::{Config, ConfigError};
#[cfg(feature = "console")]
use crate::console::{routes as console_routes, way_in};
use crate::limits::{no_method, no_route};
use crate::observe::{Observer, observed};
use crate::problem::Problem;
use crate::rate::Quota;
use crate::routes::{Requirements, Routes};
use crate::state::{ApiState, Parts};
use crate::viewers::Viewers;
use crate::{
    address, audit, auth, body, dead_letters, deliveries, described, docs, event_types, events, keys, limits,
    listeners, once, openapi, plugins, portal, queue, replays, request_id, sandboxes, stats, subscribers,
    tail, tenants,
};

/// The API, for [`Server`](crate::Server) or for an application that serves it beside its own routes.
///
/// # Errors
/// Fails if a value of `config` is out of bounds.
pub fn router(config: Config, parts: Parts) -> Result<Router, ConfigError> {
    routers(config, parts).map(|routers| routers.api)
}

/// What a server serves.
pub(crate) struct Routers {
    /// The API, with the console unless that has an address of its own.
    pub(crate) api: Router,
    /// The console, if it has an address of its own.
    pub(crate) console: Option<Router>,
    /// Those who follow what happens, whose responses end only at [`Viewers::close`].
    pub(crate) viewers: Viewers,
}

pub(crate) fn routers(config: Config, parts: Parts) -> Result<Routers, ConfigError> {
    config.validate()?;
    let console = cfg!(feature = "console") && config.console;
    let apart = console && config.console_listen.is_some();
    let telemetry = parts.telemetry.clone();
    let observer = Observer { ids: parts.store.ids().clone(), log: config.log_requests };
    let state = ApiState::new(config, parts);
    let (api, requirements, description) = api_routes().into_parts();
    let door = Door { state: state.clone(), requirements: Arc::new(requirements) };
    let api = api
        // Before the layer, so that a wrong method also requires the key.
        .method_not_allowed_fallback(no_method)
        .route_layer(middleware::from_fn_with_state(door, enter))
        .with_state(state.clone());
    let viewers = state.viewers.clone();
    let receiver = if state.config.sandbox { sandboxes::receiver(state.clone()) } else { Router::new() };
    let description = described::routes(state.clone(), openapi::document(description));
    let api = api
        .merge(telemetry)
        .merge(description)
        .merge(receiver)
        .merge(docs::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    let watching = middleware::from_fn_with_state(observer, observed);
    let console = console.then(|| console_routes(state, api.clone().layer(watching.clone())));
    let (api, console) = match console {
        Some(console) if apart => {
            (api, Some(way_in().merge(console).fallback(no_route).layer(watching.clone())))
        }
        Some(console) => (api.merge(console), None),
        None => (api, None),
    };
    Ok(Routers { api: api.layer(watching), console, viewers })
}

#[cfg(not(feature = "console"))]
fn console_routes(_: ApiState, _: Router) -> Router {
    Router::new()
}

#[cfg(not(feature = "console"))]
fn way_in() -> Router {
    Router::new()
}

/// The OpenAPI description that the server answers at `/openapi.json`, as JSON.
pub fn openapi_json() -> String {
    let (_, _, description) = api_routes().into_parts();
    openapi::document(description)
}

fn api_routes() -> Routes {
    let routes = events::routes(Routes::new());
    let routes = event_types::routes(routes);
    let routes = subscribers::routes(routes);
    let routes = deliveries::routes(routes);
    let routes = dead_letters::routes(routes);
    let routes = tenants::routes(routes);
    let routes = keys::routes(routes);
    let routes = audit::routes(routes);
    let routes = plugins::routes(routes);
    let routes = queue::routes(routes);
    let routes = replays::routes(routes);
    let routes = tail::routes(routes);
    let routes = portal::routes(routes);
    let routes = sandboxes::routes(routes);
    let routes = listeners::routes(routes);
    stats::routes(routes)
}

#[derive(Clone)]
struct Door {
    state: ApiState,
    requirements: Arc<Requirements>,
}

/// Checks what the route requires. One layer for all checks, because every layer costs an allocation per request.
async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Door { state, requirements } = door;
    let (mut asking, mut quota) = (None, None);
    let mut response = match admit(&state, &requirements, &mut request, &mut asking, &mut quota).await {
        Ok(writer) => {
            let caller = request.extensions().get::<Caller>().filter(|_| state.config.log_requests).cloned();
            let auditor = request.extensions().get::<Arc<Auditor>>().cloned();
            let mut response = limits::bounded(&state, request, next).await;
            // For the line in the log.
            caller.map(|caller| response.extensions_mut().insert(caller));
            // After a failure nobody knows whether the rows are there.
            if let Some(auditor) = auditor.filter(|_| response.status().is_success()) {
                let written = auditor.take_written();
                if !written.is_empty() {
                    audit::notify_operators(&state, written).await;
                }
            }
            if let Some(tenant) = writer.filter(|_| response.status().is_success()) {
                state.tenants.has_written(&state.store, &tenant).await;
            }
            response
        }
        Err(problem) => {
            let mut response = problem.into_response();
            asking.map(|actor: Actor| response.extensions_mut().insert(actor));
            response
        }
    };
    if response.status() == StatusCode::FORBIDDEN {
        state.counts.forbidden.increment(1);
    }
    if let Some(quota) = quota {
        quota.announce(response.headers_mut());
    }
    // Responses hold secrets, and data that changes at any time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the tenant for which the request may write. Notes who asks, once that is known, and what is left of the key's rate,
/// if it has one.
async fn admit(
    state: &ApiState,
    requirements: &Requirements,
    request: &mut Request,
    asking: &mut Option<Actor>,
    quota: &mut Option<Quota>,
) -> Result<Option<TenantId>, Problem> {
    let (headers, extensions) = (request.headers(), request.extensions());
    auth::unambiguous(headers)?;
    let actor = match auth::actor(state, headers, extensions).await {
        Ok(actor) => actor,
        Err(problem) => {
            state.counts.without_key.increment(1);
            return Err(problem);
        }
    };
    state.counts.of(&actor).increment(1);
    *asking = Some(actor.clone());
    *quota = auth::within_limits(state, &actor, headers, extensions)?;
    let needs = requirements.of(request);
    let caller = auth::caller(actor, needs, headers)?;
    tracing::Span::current().record("postrider.tenant.id", caller.tenant.as_str());
    let may_write = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let writer = may_write.then(|| caller.tenant.clone());
    let takes_events = needs.is_some_and(|needs| needs.capacity);
    if let Some(tenant) = &writer {
        state.tenants.admit(tenant)?;
    }
    if takes_events {
        state.tenants.admit_event(&caller.tenant)?;
    }
    if needs.is_some_and(|needs| needs.trail.has(request.method())) {
        let address = address::of(request.extensions(), request.headers(), &state.config.trusted_proxies);
        let actor = &caller.actor;
        let mut auditor = Auditor::new(actor.id(), actor.name(), address, request_id::current());
        auditor.request_key = once::key(request, needs, &state.store, &caller.tenant, &auditor.actor)?;
        request.extensions_mut().insert(Arc::new(auditor));
    }
    request.extensions_mut().insert(caller);
    if let Some(needs) = needs.filter(|needs| needs.body > state.config.body_limit) {
        request.extensions_mut().insert(body::Limit(needs.body));
    }
    // Before the request waits for a place: requests that wait for a slow database may hold all places.
    if takes_events {
        state.pressure.admit_event()?;
    }
    Ok(writer)
}
