//! Batches of events. Each event has its own result.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use postrider_api::event::{BatchRequest, BatchResult, BatchView, EventRequest};
use postrider_dispatch::{DispatchError, Dispatched, Dispatcher, NewEvent};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{IDEMPOTENCY_KEY, validated};
use super::view::dispatched_view;
use crate::auth::Trace;
use crate::caller::Caller;
use crate::extract::{BodyRoom, JsonBody, parse};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

type Read = Result<NewEvent, Problem>;

const MAX_EVENTS: usize = Dispatcher::MAX_BATCH;

/// A [`BatchRequest`] whose events are not parsed yet, so that an invalid event does not invalidate the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

/// Dispatch many events
///
/// Each event is validated on its own. An event that is refused gets a problem in its place and does not stop the
/// others. 503 means that none of them is known to be dispatched: the database did not confirm it. Give events an `id`, and
/// they can be sent again.
#[utoipa::path(
    post, path = "/v1/events/batch", operation_id = "dispatch_events", tag = "events", request_body = BatchRequest,
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
            "a batch has no key of its own; give each event an `id` instead",
        ));
    }
    let (mut parsed, _room) = read_all(body, &caller, &trace)?;
    for (place, read) in parsed.iter_mut().enumerate() {
        let Ok(NewEvent { tenant, event_type, data, .. }) = read else { continue };
        let mut errors = Errors::within(format!("events[{place}]"));
        state.types.admit(tenant, event_type, data, &state.event_types, &mut errors).await?;
        if let Err(problem) = errors.finish(Some(())) {
            *read = Err(problem);
        }
    }
    let (mut valid, mut problems) = (Vec::with_capacity(parsed.len()), Vec::with_capacity(parsed.len()));
    for event in parsed {
        problems.push(event.map(|event| {
            let key = event.key.as_ref().map(|key| key.as_str().to_owned());
            valid.push(event);
            key
        }));
    }
    let dispatched = state.dispatcher.dispatch_batch(valid).await;
    if store_was_unavailable(&dispatched) {
        return Err(Problem::unavailable());
    }
    let mut dispatched = dispatched.into_iter();
    let mut results = Vec::with_capacity(problems.len());
    for (place, event) in problems.into_iter().enumerate() {
        let result = event.and_then(|key| {
            // The dispatcher returns one result per event.
            let dispatched = dispatched.next().unwrap_or(Err(DispatchError::Closed));
            let dispatched =
                dispatched.map_err(|error| Problem::from(error).within(&format!("events[{place}]")));
            Ok(dispatched_view(dispatched?, key))
        });
        results.push(match result {
            Ok(dispatched) => BatchResult::Dispatched(dispatched),
            Err(problem) => BatchResult::Problem(problem.into_body()),
        });
    }
    Ok((StatusCode::ACCEPTED, Json(BatchView { results })))
}

/// Reads the events, each with its own problems, and drops the bytes of the body.
fn read_all(body: JsonBody, caller: &Caller, trace: &Trace) -> Result<(Vec<Read>, BodyRoom), Problem> {
    let request: RawBatch<'_> = body.parse()?;
    let events = request.events.ok_or_else(|| Problem::field("events", "is required"))?;
    if !(1..=MAX_EVENTS).contains(&events.len()) {
        return Err(Problem::field("events", &format!("a batch has 1 to {MAX_EVENTS} events")));
    }
    let parsed = (0..).zip(events).map(|(place, json)| read(place, json, caller, trace)).collect();
    Ok((parsed, body.into_room()))
}

fn read(place: usize, json: &RawValue, caller: &Caller, trace: &Trace) -> Read {
    let within = format!("events[{place}]");
    let request: EventRequest = parse(json.get().as_bytes(), &within)?;
    let mut errors = Errors::within(within);
    let event = validated(request, caller.tenant.clone(), None, trace.0.clone(), &mut errors);
    let event = errors.finish(event)?;
    caller.may_dispatch(&event.event_type)?;
    Ok(event)
}

/// Whether no event is known to be dispatched, and at least one of them only because the store is unavailable.
fn store_was_unavailable(results: &[Result<Dispatched, DispatchError>]) -> bool {
    results.iter().all(Result::is_err)
        && results.iter().any(|result| result.as_ref().is_err_and(DispatchError::is_unavailable))
}
