//! Events: dispatched one by one or in batches, and read back.

mod batch;
mod request;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use postrider_core::{EventType, id};
use postrider_dispatch::Dispatched;
use postrider_store::PageRequest;
use postrider_store::history::{DeliveryFilter, Event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Caller, Trace};
use crate::deliveries::DeliveryView;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::moment::Moment;
use crate::page::{self, Cursor, Limit, List};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;
use request::{EventRequest, idempotency_key};

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, dispatch))
        .routes(routes!(batch::dispatch_batch))
        .routes(routes!(read))
}

/// What came of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DispatchedView {
    /// The event's id: the `webhook-id` of all its deliveries.
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Its type.
    #[schema(example = "order.created")]
    event: String,
    /// Who emitted it.
    #[schema(example = "default")]
    agent_id: String,
    /// When it was dispatched, in Unix seconds.
    #[schema(example = 1_700_000_000)]
    timestamp: i64,
    /// How many subscribers it goes to.
    subscribers_found: usize,
    /// How many jobs deliver it.
    jobs_created: usize,
    /// These jobs.
    job_ids: Vec<String>,
    /// These subscribers, in the order of the jobs.
    subscriber_ids: Vec<String>,
    /// Whether an earlier request with the same `id` made the event, and this one changed nothing.
    duplicate: bool,
}

impl From<Dispatched> for DispatchedView {
    fn from(dispatched: Dispatched) -> Self {
        Self {
            id: dispatched.id.to_string(),
            event: dispatched.event_type.to_string(),
            agent_id: dispatched.agent_id.to_string(),
            timestamp: dispatched.timestamp.seconds(),
            subscribers_found: dispatched.subscribers.len(),
            jobs_created: dispatched.jobs.len(),
            job_ids: dispatched.jobs.iter().map(ToString::to_string).collect(),
            subscriber_ids: dispatched.subscribers.iter().map(ToString::to_string).collect(),
            duplicate: dispatched.duplicate,
        }
    }
}

/// An event that was dispatched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Its id: the `webhook-id` of all its deliveries.
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Its type.
    #[schema(example = "order.created")]
    event: String,
    /// Who emitted it.
    agent_id: String,
    /// When it was dispatched, in Unix seconds.
    timestamp: i64,
    /// The same with milliseconds.
    created_at: Moment,
    /// How many subscribers it goes to.
    subscribers_found: u32,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.to_string(),
            event: event.event_type.to_string(),
            agent_id: event.agent_id.to_string(),
            timestamp: event.dispatched_at.seconds(),
            created_at: event.dispatched_at.into(),
            subscribers_found: event.subscribers_found,
        }
    }
}

/// An event with what it says and where it went.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventDetail {
    #[serde(flatten)]
    event: EventView,
    /// What it says, byte for byte as given.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// Its deliveries, newest first; at most 250.
    deliveries: Vec<DeliveryView>,
    /// Where `GET /v1/deliveries?event_id=…` goes on, if there are more deliveries.
    deliveries_next_cursor: Option<String>,
}

/// Dispatch an event
///
/// The answer comes when the event, its deliveries and their jobs are committed together. That no
/// subscriber wants it is no error. With an `id`, or an `Idempotency-Key`, a request can be repeated:
/// it is answered as the first time, with `duplicate: true`.
#[utoipa::path(
    post, path = "/v1/events", operation_id = "dispatch_event", tag = "events", request_body = EventRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `id`; give one of them.")),
    responses(
        (status = 202, description = "The event is durable and on its way.", body = DispatchedView),
        (status = 409, description = "The id was used for another event.", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn dispatch(
    State(state): State<ApiState>,
    caller: Caller,
    trace: Trace,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<(StatusCode, Json<DispatchedView>), Problem> {
    let request: EventRequest = body.parse()?;
    let mut errors = Errors::default();
    let header = idempotency_key(&headers, &mut errors);
    let event = request.judge(caller.tenant, header, trace.0, &mut errors);
    let dispatched = state.pressure.timed(state.dispatcher.dispatch(errors.finish(event)?)).await?;
    Ok((StatusCode::ACCEPTED, Json(dispatched.into())))
}

/// Which events are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Those of this type.
    #[param(value_type = Option<String>)]
    event: Option<EventType>,
    /// How many: 1 to 250; 50 if not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 250)]
    limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<id::Event>>,
}

/// List events
///
/// Newest first, without their data.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "list_events", tag = "events", params(EventsQuery),
    responses((status = 200, description = "A page of events.", body = List<EventView>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<EventsQuery>,
) -> Result<Json<List<EventView>>, Problem> {
    let page = page::request(query.limit, query.cursor);
    let events = state.store.events(&caller.tenant, query.event.as_ref(), page).await?;
    Ok(Json(List::of(events, |event| EventView::from(&event))))
}

/// Get an event
///
/// With its data and its deliveries.
#[utoipa::path(
    get, path = "/v1/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = String, Path, description = "The event's id, `evt_…`.")),
    responses((status = 200, description = "The event.", body = EventDetail))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Event>,
) -> Result<Json<EventDetail>, Problem> {
    let found = state.store.event(&caller.tenant, id).await?;
    let event = found.ok_or_else(|| Problem::missing("event"))?;
    let filter = DeliveryFilter { event_id: Some(id), ..DeliveryFilter::default() };
    let page = PageRequest { limit: PageRequest::<id::Delivery>::MAX_LIMIT, before: None };
    let deliveries =
        List::of(state.store.deliveries(&caller.tenant, &filter, page).await?, DeliveryView::from);
    Ok(Json(EventDetail {
        data: data(&event)?,
        event: EventView::from(&event),
        deliveries: deliveries.data,
        deliveries_next_cursor: deliveries.next_cursor,
    }))
}

/// The data of the stored envelope.
fn data(event: &Event) -> Result<Box<RawValue>, Problem> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Box<RawValue>,
    }
    let envelope: Envelope = serde_json::from_slice(&event.envelope).map_err(|error| {
        tracing::error!(event = %event.id, %error, "a stored envelope cannot be read");
        Problem::internal()
    })?;
    Ok(envelope.data)
}
