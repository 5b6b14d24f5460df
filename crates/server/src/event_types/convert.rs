//! Deriving event types from events, and exchanging them with other formats.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use postrider_api::event_type::{
    EventTypeRequest, ExportQuery, ImportRequest, ImportedView, InferRequest, InferredView, Language,
};
use postrider_core::EventType;
use postrider_core::event::SchemaMode;
use postrider_store::PageRequest;
use postrider_store::event_types::{RegisteredType, TypeChanged};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{all, exchange, infer, owner, request, too_many, typescript};
use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{JsonBody, Parameters};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

/// From how many events a schema is derived.
const EXAMPLES: u16 = 50;

/// Derive a schema from events
///
/// From the tenant's newest events of a type, up to 50. All of them match the schema. It is not registered yet.
#[utoipa::path(
    post, path = "/v1/event-types/infer", operation_id = "infer_event_type", tag = "event types",
    request_body = InferRequest,
    responses((status = 200, description = "The schema.", body = InferredView))
)]
pub(super) async fn derive(
    State(state): State<ApiState>,
    caller: Caller,
    body: JsonBody,
) -> Result<Json<InferredView>, Problem> {
    let request: InferRequest = body.parse()?;
    let mut errors = Errors::default();
    let name = errors.require("name", request.name).and_then(|name| errors.check("name", name.parse()));
    let name: EventType = errors.finish(name)?;
    let page = PageRequest { limit: EXAMPLES, before: None };
    let events = state.store.events(&caller.tenant, Some(&name), page).await?;
    let kept = events.items.iter().filter(|event| event.payload_gone.is_none());
    let size: usize = kept.clone().map(|event| event.envelope_size).sum();
    let _room = state.memory.room_while_running(2 * size).await?;
    let ids: Vec<_> = kept.map(|event| (caller.tenant.clone(), event.id)).collect();
    let envelopes = state.store.envelopes(&ids).await?;
    let data: Vec<Value> = ids
        .iter()
        .filter_map(|(_, id)| serde_json::from_slice::<Value>(envelopes.get(id)?).ok())
        .filter_map(|mut envelope| envelope.get_mut("data").map(Value::take))
        .collect();
    let events = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let schema = infer::schema(&data);
    Ok(Json(InferredView { name, schema, example: data.into_iter().next(), events }))
}

/// Import event types
///
/// Registers or changes a type for each of the `webhooks` of an OpenAPI 3.1 document, with the schema of `data` in its body, or
/// of its whole body. The rest of the document is ignored. Modes stay as they are; new types are not enforced. A schema may
/// replace one with which it is not compatible.
#[utoipa::path(
    post, path = "/v1/event-types/import", operation_id = "import_event_types", tag = "event types",
    request_body = ImportRequest,
    responses((status = 200, description = "What was registered and changed.", body = ImportedView))
)]
pub(super) async fn import(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Json<ImportedView>, Problem> {
    let ImportRequest { webhooks, components } = body.parse()?;
    let components = Value::Object(components);
    let mut errors = Errors::default();
    let of = owner(&caller);
    let webhooks = errors.require("webhooks", webhooks).unwrap_or_default();
    let mut wanted = Vec::new();
    for (name, webhook) in &webhooks {
        let field = format!("webhooks.{name}");
        let parsed = errors.check(&field, name.parse::<EventType>());
        let imported = errors.check(&field, exchange::imported(webhook, &components));
        let (Some(parsed), Some(imported)) = (parsed, imported) else { continue };
        let request = EventTypeRequest {
            description: Some(imported.description),
            deprecated: Some(imported.deprecated),
            schema: imported.schema.and_then(|schema| RawValue::from_string(schema.to_string()).ok()),
            force: true,
            ..EventTypeRequest::default()
        };
        let checked = request::registered(parsed.clone(), request, None, Errors::within(field));
        wanted.push((parsed, checked?));
    }
    errors.finish(Some(()))?;
    let mut done = ImportedView::default();
    for (name, imported) in wanted {
        let write = |present: Option<&RegisteredType>| {
            let Some(present) = present else { return Ok(imported) };
            let RegisteredType { description, deprecated, schema, .. } = imported;
            // Without a schema there is nothing to enforce.
            let mode = if schema.is_none() { SchemaMode::Off } else { present.mode };
            Ok::<_, Problem>(RegisteredType { description, deprecated, schema, mode, ..present.clone() })
        };
        match store.change_event_type(&of, &name, write).await? {
            TypeChanged::Created(_) => done.created.push(name),
            TypeChanged::Changed(_) => done.changed.push(name),
            TypeChanged::TooMany => return Err(too_many()),
        }
    }
    state.types.changed().await?;
    Ok(Json(done))
}

/// Export event types
///
/// As the `webhooks` of an OpenAPI 3.1 document, or as TypeScript types.
#[utoipa::path(
    get, path = "/v1/event-types/export", operation_id = "export_event_types", tag = "event types",
    params(ExportQuery),
    responses(
        (status = 200, description = "The event types.", content((Value = "application/json"), (String = "application/typescript"))),
    )
)]
pub(super) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Response, Problem> {
    let types = all(&state.store, &owner(&caller)).await?.into_values();
    Ok(match query.format.unwrap_or_default() {
        Language::Openapi => {
            let types =
                types.map(|view| (view.name.to_string(), view.description, view.deprecated, view.schema));
            Json(exchange::document(types)).into_response()
        }
        Language::Typescript => {
            let types = types.map(|view| (view.name.to_string(), view.description, view.schema));
            let typescript = HeaderValue::from_static("application/typescript");
            ([(header::CONTENT_TYPE, typescript)], typescript::types(types)).into_response()
        }
    })
}
