//! Event types: registered, changed, shown, derived from events, and exchanged with OpenAPI and TypeScript.

mod compare;
mod convert;
mod exchange;
mod infer;
mod request;
mod typescript;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::event_type::{
    EventTypeChangeRequest, EventTypeList, EventTypeRequest, EventTypeView, EventTypesQuery, Registered,
};
use postrider_api::{Limit, Moment};
use postrider_core::EventType;
use postrider_core::event::SchemaMode;
use postrider_core::key::Scope;
use postrider_store::Store;
use postrider_store::event_types::{MAX_TYPES, RegisteredType, TypeChanged, TypesOf};
use serde_json::Value;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{JsonBody, Parameters, PathEventType};
use crate::needs::Needs;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

const READ: Needs = Needs::scope(Scope::TypesRead).on_deployment();
const WRITE: Needs = Needs::scope(Scope::TypesWrite).on_deployment();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        // Types are nobody's in particular: an owner chooses from them in the portal.
        .add(READ.for_some_subscribers(), routes!(list))
        .add(WRITE, routes!(register))
        .add(READ.and_reads(Scope::PayloadsRead), routes!(convert::derive))
        .add(WRITE, routes!(convert::import))
        .add(READ, routes!(convert::export))
        .add(READ, routes!(read))
        .add(WRITE, routes!(replace))
        .add(WRITE, routes!(change))
        .add(WRITE, routes!(delete))
}

/// Whose types a request concerns.
fn owner(caller: &Caller) -> TypesOf {
    if caller.one_tenant { TypesOf::Tenant(caller.tenant.clone()) } else { TypesOf::Deployment }
}

fn registered_by(of: &TypesOf) -> Registered {
    match of {
        TypesOf::Deployment => Registered::Deployment,
        TypesOf::Tenant(_) => Registered::Tenant,
    }
}

fn view(registered: RegisteredType, by: Registered, deliveries: Option<u64>) -> EventTypeView {
    let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    EventTypeView {
        name: registered.name,
        registered: by,
        description: registered.description,
        group: registered.group,
        deprecated: registered.deprecated,
        schema: json(registered.schema),
        example: json(registered.example),
        mode: registered.mode,
        deliveries,
        created_at: Some(registered.created_at.into()),
        updated_at: Some(registered.updated_at.into()),
    }
}

/// A type that nobody has registered.
fn seen_view(name: EventType, deliveries: u64) -> EventTypeView {
    EventTypeView {
        name,
        registered: Registered::Seen,
        description: String::new(),
        group: String::new(),
        deprecated: false,
        schema: None,
        example: None,
        mode: SchemaMode::Off,
        deliveries: Some(deliveries),
        created_at: None::<Moment>,
        updated_at: None,
    }
}

/// Types as the `webhooks` of an OpenAPI document.
pub(crate) fn webhooks(types: Vec<RegisteredType>) -> Value {
    let types = types.into_iter().map(|of| {
        let schema = of.schema.and_then(|schema| serde_json::from_str(&schema).ok());
        (of.name.to_string(), of.description, of.deprecated, schema)
    });
    exchange::document(types)["webhooks"].take()
}

/// All types that concern an owner, by name: its own, otherwise those of the deployment, otherwise those that were seen.
async fn all(store: &Store, of: &TypesOf) -> Result<BTreeMap<EventType, EventTypeView>, Problem> {
    let mut types = BTreeMap::new();
    let mut seen = BTreeMap::new();
    if let TypesOf::Tenant(tenant) = of {
        for found in store.seen_event_types(tenant).await? {
            seen.insert(found.name.clone(), found.deliveries);
            types.insert(found.name.clone(), seen_view(found.name, found.deliveries));
        }
    }
    for owner in [&TypesOf::Deployment, of] {
        for registered in store.event_types(owner).await? {
            let deliveries = matches!(of, TypesOf::Tenant(_))
                .then(|| seen.get(&registered.name).copied().unwrap_or_default());
            let name = registered.name.clone();
            types.insert(name, view(registered, registered_by(owner), deliveries));
        }
    }
    Ok(types)
}

/// The registered type that counts for an owner, and whose it is.
async fn found(
    store: &Store,
    of: &TypesOf,
    name: &EventType,
) -> Result<Option<(RegisteredType, Registered)>, Problem> {
    for owner in [of, &TypesOf::Deployment] {
        if let Some(registered) = store.event_type(owner, name).await? {
            return Ok(Some((registered, registered_by(owner))));
        }
    }
    Ok(None)
}

/// List event types
///
/// In the order of their names: the tenant's own, those of the deployment, and those that only occurred in the tenant's events
/// of the last 30 days.
#[utoipa::path(
    get, path = "/v1/event-types", operation_id = "list_event_types", tag = "event types", params(EventTypesQuery),
    responses((status = 200, description = "A page of event types.", body = EventTypeList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<EventTypesQuery>,
) -> Result<Json<EventTypeList>, Problem> {
    let limit = usize::from(query.limit.map_or(50, Limit::items));
    let types = all(&state.store, &owner(&caller)).await?;
    let mut rest = types
        .into_iter()
        .filter(|(name, _)| query.cursor.as_ref().is_none_or(|after| name > after))
        .map(|(_, view)| view);
    let data: Vec<_> = rest.by_ref().take(limit).collect();
    let next_cursor = rest.next().and_then(|_| data.last().map(|view| view.name.to_string()));
    Ok(Json(EventTypeList { data, next_cursor }))
}

/// Register an event type
///
/// For the tenant, or by an operator without `X-Tenant-ID` for the whole deployment. It takes effect at once on this server,
/// and within 5 s on the others.
#[utoipa::path(
    post, path = "/v1/event-types", operation_id = "register_event_type", tag = "event types",
    request_body = EventTypeRequest,
    responses(
        (status = 201, description = "The event type.", body = EventTypeView),
        (
            status = 409, description = "It is registered already, or there are too many.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn register(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: EventTypeRequest = body.parse()?;
    let mut errors = Errors::default();
    let name = errors.require("name", request.name.clone());
    let Some(name) = name.and_then(|name| errors.check("name", name.parse::<EventType>())) else {
        // The other fields are checked as well.
        let placeholder: EventType = "x".parse().map_err(|_| Problem::internal())?;
        return Err(request::registered(placeholder, request, None, errors)
            .err()
            .unwrap_or_else(Problem::internal));
    };
    let of = owner(&caller);
    let write = |present: Option<&RegisteredType>| {
        if present.is_some() {
            let detail =
                format!("the event type `{name}` is registered already; change it with PUT or PATCH");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        request::registered(name.clone(), request, None, errors)
    };
    written(&state, store.change_event_type(&of, &name, write).await?, &of).await
}

/// Get an event type
///
/// The tenant's own, or that of the deployment.
#[utoipa::path(
    get, path = "/v1/event-types/{name}", operation_id = "get_event_type", tag = "event types",
    params(("name" = String, Path, description = "The event type.")),
    responses(
        (status = 200, description = "The event type.", body = EventTypeView),
        (
            status = 404, description = "It is not registered.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathEventType(name): PathEventType,
) -> Result<Json<EventTypeView>, Problem> {
    let (registered, by) =
        found(&state.store, &owner(&caller), &name).await?.ok_or_else(|| Problem::missing("event type"))?;
    Ok(Json(view(registered, by, None)))
}

/// Register or replace an event type
///
/// Fields that are absent take their defaults. A schema that may break publishers or receivers of the present one is refused
/// with 409, unless `force` is true.
#[utoipa::path(
    put, path = "/v1/event-types/{name}", operation_id = "put_event_type", tag = "event types",
    params(("name" = String, Path, description = "The event type.")), request_body = EventTypeRequest,
    responses(
        (status = 200, description = "The replaced event type.", body = EventTypeView),
        (status = 201, description = "The new event type.", body = EventTypeView),
        (
            status = 409, description = "The schema may break somebody; `errors` says how. Or there are too many types.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn replace(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathEventType(name): PathEventType,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: EventTypeRequest = body.parse()?;
    let mut errors = Errors::default();
    if request.name.as_ref().is_some_and(|given| given != name.as_str()) {
        errors.add("name", "must be the name in the path, or absent");
    }
    let of = owner(&caller);
    let write =
        |present: Option<&RegisteredType>| request::registered(name.clone(), request, present, errors);
    written(&state, store.change_event_type(&of, &name, write).await?, &of).await
}

/// Change an event type
///
/// Fields that are absent keep their value. A tenant that changes a type of the deployment gets one of its own.
#[utoipa::path(
    patch, path = "/v1/event-types/{name}", operation_id = "change_event_type", tag = "event types",
    params(("name" = String, Path, description = "The event type.")), request_body = EventTypeChangeRequest,
    responses(
        (status = 200, description = "The changed event type.", body = EventTypeView),
        (
            status = 404, description = "It is not registered.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
        (
            status = 409, description = "The schema may break somebody; `errors` says how.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn change(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathEventType(name): PathEventType,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: EventTypeChangeRequest = body.parse()?;
    let of = owner(&caller);
    let inherited = match &of {
        TypesOf::Tenant(_) => state.store.event_type(&TypesOf::Deployment, &name).await?,
        TypesOf::Deployment => None,
    };
    let write = |present: Option<&RegisteredType>| {
        let present = present.or(inherited.as_ref()).ok_or_else(|| Problem::missing("event type"))?;
        request::changed(present, request)
    };
    let changed = store.change_event_type(&of, &name, write).await?;
    let mut response = written(&state, changed, &of).await?;
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Delete an event type
///
/// Events of the type are taken as before it was registered. A tenant's own type gives way to that of the deployment.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", operation_id = "delete_event_type", tag = "event types",
    params(("name" = String, Path, description = "The event type.")),
    responses(
        (status = 204, description = "The event type is deleted."),
        (
            status = 404, description = "It is not registered, or only for the deployment.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn delete(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathEventType(name): PathEventType,
) -> Result<StatusCode, Problem> {
    if !store.delete_event_type(&owner(&caller), &name).await? {
        return Err(Problem::missing("event type"));
    }
    state.types.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The answer to a change.
async fn written(state: &ApiState, changed: TypeChanged, of: &TypesOf) -> Result<Response, Problem> {
    let (status, registered) = match changed {
        TypeChanged::Created(registered) => (StatusCode::CREATED, registered),
        TypeChanged::Changed(registered) => (StatusCode::OK, registered),
        TypeChanged::TooMany => return Err(too_many()),
    };
    state.types.changed().await?;
    let location = HeaderValue::try_from(format!("/v1/event-types/{}", registered.name));
    let mut response = (status, Json(view(registered, registered_by(of), None))).into_response();
    if let (StatusCode::CREATED, Ok(location)) = (status, location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The answer if an owner has too many types.
fn too_many() -> Problem {
    let most = MAX_TYPES;
    Problem::new(
        StatusCode::CONFLICT,
        format!(
            "there are {most} event types already, or their schemas and examples take 4 MiB; delete some of them"
        ),
    )
}
