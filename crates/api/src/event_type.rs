//! Event types: registered, changed, listed, derived from events, and exchanged with OpenAPI.

use std::collections::BTreeMap;

use postrider_core::EventType;
use postrider_core::event::SchemaMode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::subscriber::Change;
use crate::{Limit, Moment};

/// An event type to register, or to replace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(example = json!({"name": "order.created", "schema": {"type": "object", "required": ["order"]}, "mode": "warn"})))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EventTypeRequest {
    /// The event type. In a `PUT` it may be absent, and must otherwise be that of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(example = "order.created"))]
    pub name: Option<String>,
    /// A description for people: up to 4000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 4000))]
    pub description: Option<String>,
    /// What the type is listed under: up to 100 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 100, example = "orders"))]
    pub group: Option<String>,
    /// Whether publishers should no longer use it. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<bool>,
    /// The JSON Schema (2020-12, or draft 7 if `$schema` says so) of the data: up to 64 KiB, without references to other
    /// documents and without references in a circle.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Value>))]
    pub schema: Option<Box<RawValue>>,
    /// An example of the data: up to 64 KiB. It must match the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Value>))]
    pub example: Option<Box<RawValue>>,
    /// What becomes of events that do not match the schema: `off` (they are not compared with it), `warn` (they are delivered
    /// and counted) or `enforce` (they are refused with 422). Default: `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<SchemaMode>))]
    pub mode: Option<String>,
    /// Whether a schema may replace one with which it is not compatible. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub force: bool,
}

/// Changes to an event type: a JSON merge patch (RFC 7396), in which a schema and an example are replaced as a whole.
#[derive(Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(example = json!({"deprecated": true, "group": "orders"})))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EventTypeChangeRequest {
    /// A description for people: up to 4000 characters.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, max_length = 4000))]
    pub description: Change<String>,
    /// What the type is listed under: up to 100 characters.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, max_length = 100))]
    pub group: Change<String>,
    /// Whether publishers should no longer use it.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<bool>))]
    pub deprecated: Change<bool>,
    /// The JSON Schema of the data.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Value>))]
    pub schema: Change<Box<RawValue>>,
    /// An example of the data.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Value>))]
    pub example: Change<Box<RawValue>>,
    /// What becomes of events that do not match the schema.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<SchemaMode>))]
    pub mode: Change<String>,
    /// Whether a schema may replace one with which it is not compatible.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub force: bool,
}

/// An event type.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = EventTypeDetail))]
pub struct EventTypeView {
    /// The event type.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub name: EventType,
    /// Who has registered it.
    pub registered: Registered,
    /// A description for people.
    pub description: String,
    /// What the type is listed under.
    pub group: String,
    /// Whether publishers should no longer use it.
    pub deprecated: bool,
    /// The JSON Schema of the data; null if there is none.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<Object>))]
    pub schema: Option<Value>,
    /// An example of the data; null if there is none.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<Value>))]
    pub example: Option<Value>,
    /// What becomes of events that do not match the schema.
    pub mode: SchemaMode,
    /// How many deliveries the tenant's events of this type had in the last 30 days of UTC; null for the whole deployment.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deliveries: Option<u64>,
    /// When it was registered; null if it was not.
    #[cfg_attr(feature = "schema", schema(required))]
    pub created_at: Option<Moment>,
    /// When it was last changed; null if it is not registered.
    #[cfg_attr(feature = "schema", schema(required))]
    pub updated_at: Option<Moment>,
}

/// Who has registered an event type: the `tenant`, the operator for the whole `deployment`, or nobody (`seen` in events).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Registered {
    /// The tenant.
    Tenant,
    /// The operator, for the whole deployment.
    Deployment,
    /// Nobody: it occurred in events.
    Seen,
}

/// A page of event types, in the order of their names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = EventTypeList))]
pub struct EventTypeList {
    /// The event types.
    pub data: Vec<EventTypeView>,
    /// The `cursor` of the next page; null on the last one.
    #[cfg_attr(feature = "schema", schema(required))]
    pub next_cursor: Option<String>,
}

/// Selects a page of event types.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EventTypesQuery {
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<EventType>,
}

/// The type from whose events to derive a schema.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct InferRequest {
    /// The event type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(required = true, value_type = String, example = "order.created"))]
    pub name: Option<String>,
}

/// A schema that was derived from events. It is not registered yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = InferredSchema))]
pub struct InferredView {
    /// The event type.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: EventType,
    /// The JSON Schema that all of these events match.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub schema: Value,
    /// The data of the newest of them.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<Value>))]
    pub example: Option<Value>,
    /// From how many events it was derived.
    pub events: u32,
}

/// An OpenAPI 3.1 document, whose `webhooks` become event types.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(example = json!({"webhooks": {"order.created": {"post": {"description": "An order was created."}}}})))]
#[serde(expecting = "an object")]
pub struct ImportRequest {
    /// Webhooks by event type, with the request body's schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(required = true, value_type = Object))]
    pub webhooks: Option<BTreeMap<String, Value>>,
    /// What the schemas refer to.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false, value_type = Object))]
    pub components: serde_json::Map<String, Value>,
}

/// What an import has done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ImportedEventTypes))]
pub struct ImportedView {
    /// The event types that were registered.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub created: Vec<EventType>,
    /// Those that were changed.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub changed: Vec<EventType>,
}

/// How to write event types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// As an OpenAPI 3.1 document.
    #[default]
    Openapi,
    /// As TypeScript types.
    Typescript,
}

/// Selects how to export event types.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ExportQuery {
    /// How to write them: `openapi` (the default) or `typescript`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, pattern = "^(openapi|typescript)$"))]
    pub format: Option<Language>,
}
