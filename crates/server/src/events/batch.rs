//! Events in batches: each has a result of its own.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use postrider_core::TenantId;
use postrider_dispatch::{DispatchError, Dispatched, Dispatcher, NewEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::DispatchedView;
use super::request::{EventRequest, IDEMPOTENCY_KEY};
use crate::auth::{Caller, Trace};
use crate::extract::{JsonBody, parse};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

const MAX_EVENTS: usize = Dispatcher::MAX_BATCH;

/// Events to be dispatched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest<'a> {
    /// 1 to 1000 events.
    #[serde(borrow)]
    #[schema(value_type = Vec<EventRequest>, required = true, min_items = 1, max_items = 1000)]
    events: Option<Vec<&'a RawValue>>,
}

/// What came of the events, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchView {
    /// For each event what `POST /v1/events` would have answered.
    results: Vec<ResultView>,
}

/// What came of one event: its ids, or a problem with its status.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ResultView {
    Dispatched(DispatchedView),
    Problem(Problem),
}

/// Dispatch many events
///
/// Each event is judged on its own: one that is refused gets a problem in its place and does not stop
/// the others. 503 means that none of them was dispatched.
#[utoipa::path(
    post, path = "/v1/events/batch", operation_id = "dispatch_events", tag = "events", request_body = BatchRequest<'static>,
    responses((status = 202, description = "One result per event, in order.", body = BatchView))
)]
pub(super) async fn dispatch_batch(
    State(state): State<ApiState>,
    caller: Caller,
    trace: Trace,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<(StatusCode, Json<BatchView>), Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::field(
            "Idempotency-Key",
            "of a batch, each event has an `id` of its own instead",
        ));
    }
    let request: BatchRequest<'_> = body.parse()?;
    let events = request.events.ok_or_else(|| Problem::field("events", "it is missing"))?;
    if !(1..=MAX_EVENTS).contains(&events.len()) {
        return Err(Problem::field("events", &format!("a batch has 1 to {MAX_EVENTS} events")));
    }
    let judged: Vec<_> =
        (0..).zip(events).map(|(place, json)| judge(place, json, &caller.tenant, &trace)).collect();
    let good = judged.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
    let dispatched = state.dispatcher.dispatch_batch(good).await;
    if none_for_now(&dispatched) {
        return Err(Problem::unavailable());
    }
    let mut dispatched = dispatched.into_iter();
    let mut results = Vec::with_capacity(judged.len());
    for event in judged {
        let result = event.and_then(|_| {
            // There is one for each; a dispatcher that forgot one has not dispatched it.
            dispatched.next().unwrap_or(Err(DispatchError::Closed)).map_err(Problem::from)
        });
        results.push(match result {
            Ok(dispatched) => ResultView::Dispatched(dispatched.into()),
            Err(problem) => ResultView::Problem(problem),
        });
    }
    Ok((StatusCode::ACCEPTED, Json(BatchView { results })))
}

fn judge(place: usize, json: &RawValue, tenant: &TenantId, trace: &Trace) -> Result<NewEvent, Problem> {
    let within = format!("events[{place}]");
    let request: EventRequest = parse(json.get().as_bytes(), &within)?;
    let mut errors = Errors::within(within);
    let event = request.judge(tenant.clone(), None, trace.0.clone(), &mut errors);
    errors.finish(event)
}

/// Whether nothing was dispatched, and some of it only because the store is away.
fn none_for_now(results: &[Result<Dispatched, DispatchError>]) -> bool {
    results.iter().all(Result::is_err)
        && results.iter().any(|result| result.as_ref().is_err_and(DispatchError::is_unavailable))
}
