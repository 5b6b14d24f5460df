//! Events: dispatched one by one or in batches, and read back.

mod batch;
mod explain;
mod request;
mod view;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use postrider_api::event::{DispatchedView, EventDetail, EventList, EventRequest, EventsQuery, PayloadGone};
use postrider_core::key::Scope;
use postrider_core::{EventId, TenantId, id};
use postrider_dispatch::{IdempotencyKey, NewEvent};
use postrider_store::PageRequest;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::events::Event;
use serde_json::value::RawValue;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::auth::Trace;
use crate::caller::Caller;
use crate::deliveries::delivery_view;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::needs::Needs;
use crate::page;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

pub(crate) use request::{IDEMPOTENCY_KEY, idempotency_key, validated};
pub(crate) use view::{dispatched_view, event_view, payload_view};

/// It shows the URLs of subscribers.
const EXPLAIN: Needs =
    Needs::scope(Scope::EventsRead).and_reads(Scope::SubscribersRead).for_some_subscribers();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(Needs::scope(Scope::EventsRead), routes!(list))
        .add(Needs::scope(Scope::EventsWrite).with_capacity(), routes!(dispatch))
        .add(Needs::scope(Scope::EventsWrite).with_capacity(), routes!(batch::dispatch_batch))
        .add(Needs::scope(Scope::EventsRead).with_audited_read(), routes!(read))
        .add(EXPLAIN, routes!(explain::explain))
        .add(Needs::scope(Scope::EventsWrite), routes!(erase))
}

/// Dispatch an event
///
/// The server answers after the event, its deliveries and their jobs are committed in one transaction. An event without
/// subscribers is not an error. For an event with more than 100 subscribers it answers after the event and the promise to
/// make its deliveries are committed; they follow within seconds, and `fan_out` is `continuing` until then. A request with
/// an `id` or an `Idempotency-Key` may be repeated for 24 hours, unless the operator has set another time: the answer is that of the first request, with `duplicate:
/// true`. After a 503, or without an answer, the event may have been dispatched.
#[utoipa::path(
    post, path = "/v1/events", operation_id = "dispatch_event", tag = "events", request_body = EventRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Means the same as `id`; give one of them.")),
    responses(
        (status = 202, description = "The event is durable and will be delivered.", body = DispatchedView),
        (
            status = 409, description = "The `id` was used for another event.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn dispatch(
    State(state): State<ApiState>,
    caller: Caller,
    trace: Trace,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<(StatusCode, Json<DispatchedView>), Problem> {
    let (request, _room): (EventRequest, _) = body.into_parsed()?;
    let mut errors = Errors::default();
    let header = idempotency_key(&headers, &mut errors);
    let event = validated(request, caller.tenant.clone(), header, trace.0, &mut errors);
    if let Some(NewEvent { tenant, event_type, data, .. }) = &event {
        state.types.admit(tenant, event_type, data, &state.event_types, &mut errors).await?;
    }
    let event = errors.finish(event)?;
    caller.may_dispatch(&event.event_type)?;
    let key = event.key.as_ref().map(|key| key.as_str().to_owned());
    let dispatched = state.pressure.timed(state.dispatcher.dispatch(event)).await?;
    Ok((StatusCode::ACCEPTED, Json(dispatched_view(dispatched, key))))
}

/// List events
///
/// Newest first, without their data.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "list_events", tag = "events", params(EventsQuery),
    responses((status = 200, description = "A page of events.", body = EventList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<EventsQuery>,
) -> Result<Json<EventList>, Problem> {
    let page = page::request(query.limit, query.cursor);
    if let Some(key) = query.idempotency_key {
        let key = IdempotencyKey::parse(&key).map_err(|error| Problem::field("idempotency_key", &error))?;
        let of_type =
            |event: &Event| query.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type);
        let follows = |event: &Event| page.before.is_none_or(|before| event.id < before);
        let found = state.store.event_with_key(&caller.tenant, key.as_str()).await?;
        let data = found.iter().filter(|event| of_type(event) && follows(event)).map(event_view).collect();
        return Ok(Json(EventList { data, next_cursor: None }));
    }
    let events = state.store.events(&caller.tenant, query.event_type.as_ref(), page).await?;
    Ok(Json(page::list(events, |event| event_view(&event))))
}

/// Get an event
///
/// With its data and its deliveries. Without the scope `payloads:read` the data is null, and `payload` is `hidden`.
#[utoipa::path(
    get, path = "/v1/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = String, Path, description = "The event's id, `evt_…`.")),
    responses((status = 200, description = "The event.", body = EventDetail))
)]
async fn read(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Event>,
) -> Result<Response, Problem> {
    let found = state.store.event(&caller.tenant, id).await?;
    let event = found.ok_or_else(|| Problem::missing("event"))?;
    let is_hidden = !caller.may(Scope::PayloadsRead);
    // The data is in memory twice while the response is being built.
    let size = if is_hidden { 0 } else { event.envelope_size };
    let room = state.memory.room_while_running(2 * size).await?;
    let filter = DeliveryFilter { event_id: Some(id), ..DeliveryFilter::default() };
    let page = PageRequest { limit: PageRequest::<id::Delivery>::MAX_LIMIT, before: None };
    let deliveries = page::list(state.store.deliveries(&caller.tenant, &filter, page).await?, delivery_view);
    let (data, payload) = match event.payload_gone {
        Some(gone) => (RawValue::NULL.to_owned(), Some(payload_view(gone))),
        None if is_hidden => (RawValue::NULL.to_owned(), Some(PayloadGone::Hidden)),
        None => {
            if state.config.audit_payloads {
                store.audit_read(&caller.tenant, id).await?;
            }
            payload(&state, &caller.tenant, id).await?
        }
    };
    room.json(&EventDetail {
        data,
        payload,
        event: event_view(&event),
        deliveries: deliveries.data,
        deliveries_next_cursor: deliveries.next_cursor,
    })
}

/// The data of an event, or why it is gone.
async fn payload(
    state: &ApiState,
    tenant: &TenantId,
    id: EventId,
) -> Result<(Box<RawValue>, Option<PayloadGone>), Problem> {
    let mut envelopes = state.store.envelopes(&[(tenant.clone(), id)]).await?;
    if let Some(envelope) = envelopes.remove(&id) {
        return Ok((data(id, &envelope)?, None));
    }
    // It went between the two reads.
    let event = state.store.event(tenant, id).await?;
    let gone = event.and_then(|event| event.payload_gone).ok_or_else(|| Problem::missing("event"))?;
    Ok((RawValue::NULL.to_owned(), Some(payload_view(gone))))
}

/// Erase an event's payload
///
/// Erases the data at once and for good: the event then has `"data": null` and `"payload": "erased"`. Its pending deliveries
/// end as `cancelled` without further requests, and the headers and bodies of the responses to its deliveries are erased: a
/// worker does that step by step, so it takes longer for an event with very many deliveries. Requests in flight finish, and
/// their responses are erased an hour later. May be repeated.
#[utoipa::path(
    delete, path = "/v1/events/{id}/payload", operation_id = "erase_payload", tag = "events",
    params(("id" = String, Path, description = "The event's id, `evt_…`.")),
    responses((status = 204, description = "The data is erased; the rest will be."))
)]
async fn erase(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Event>,
) -> Result<StatusCode, Problem> {
    if caller.actor.limits().is_some_and(|limits| !limits.event_types.is_empty()) {
        let found = state.store.event(&caller.tenant, id).await?;
        caller.may_dispatch(&found.ok_or_else(|| Problem::missing("event"))?.event_type)?;
    }
    if store.erase_payload(&caller.tenant, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::missing("event"))
    }
}

/// The data of the stored envelope.
fn data(event: EventId, envelope: &[u8]) -> Result<Box<RawValue>, Problem> {
    crate::views::data(envelope).map_err(|error| {
        tracing::error!(%event, %error, "a stored envelope is not readable");
        Problem::internal()
    })
}
