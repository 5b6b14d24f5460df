//! A span, metrics and a line in the log for every request, with the route and never with the path.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use metrics::SharedString;
use postrider_core::IdGenerator;
use postrider_telemetry::{context, metric};
use tracing::{Instrument as _, field};

use crate::caller::{Actor, Caller};
use crate::request_id;

/// The label of paths without a route.
const NO_ROUTE: &str = "none";

/// Routes that are called too often to be worth a line each.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// What it takes to observe requests.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) ids: IdGenerator,
    /// Whether each request has a line in the log.
    pub(crate) log: bool,
}

pub(crate) async fn observed(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or(SharedString::const_str(NO_ROUTE), |route| route.as_str().to_owned().into());
    let span = tracing::debug_span!(
        "http.request",
        "otel.kind" = "server",
        "otel.name" = format_args!("{method} {route}"),
        "otel.status_code" = field::Empty,
        "http.request.method" = method,
        "http.route" = &*route,
        "http.response.status_code" = field::Empty,
        "postrider.tenant.id" = field::Empty,
        "postrider.request.id" = field::Empty,
    );
    let id = request_id::of(request.headers(), &observer.ids);
    span.record("postrider.request.id", id.to_str().unwrap_or_default());
    if let Some(Ok(traceparent)) = request.headers().get("traceparent").map(|value| value.to_str()) {
        context::set_parent(&span, traceparent);
    }
    let started = Instant::now();
    let mut response = request_id::within(id.clone(), next.run(request)).instrument(span.clone()).await;
    response.headers_mut().insert(request_id::HEADER, id.clone());
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let elapsed = started.elapsed();
    if observer.log && !(status.is_success() && PROBES.contains(&&*route)) {
        let caller = response.extensions().get::<Caller>();
        let refused = response.extensions().get::<Actor>();
        tracing::info!(
            method,
            route = &*route,
            status = status.as_u16(),
            duration_ms = elapsed.as_secs_f64() * 1000.0,
            key = caller.map(|caller| &caller.actor).or(refused).map(Actor::id),
            tenant = caller.map(|caller| caller.tenant.as_str()),
            request_id = id.to_str().unwrap_or_default(),
            "request"
        );
    }
    let labels = [
        metrics::Label::new(metric::METHOD, method),
        metrics::Label::new(metric::ROUTE, route),
        metrics::Label::new(metric::STATUS, status.as_str().to_owned()),
    ];
    let [method, route, _] = &labels;
    let seconds = elapsed.as_secs_f64();
    metrics::histogram!(metric::HTTP_REQUEST_DURATION, vec![method.clone(), route.clone()]).record(seconds);
    metrics::counter!(metric::HTTP_REQUESTS, labels.to_vec()).increment(1);
    response
}

/// The label of a method. Clients may invent methods, so unusual ones share a label.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
