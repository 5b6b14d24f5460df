//! The transforms of subscribers.

use postrider_core::only_objects;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What is done with an event's data before it is sent: either `steps` or `project`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(as = Transform, example = json!({"steps": [{"op": "mask", "path": "/card/number", "keep": 4}]}))
)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct TransformFields {
    /// Steps, applied in their order. What no step touches is sent as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 100))]
    pub steps: Option<Vec<StepFields>>,
    /// A CEL expression over `event` and `data` that gives `{"data": …}`, and `"headers"` if it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 4096))]
    pub project: Option<String>,
}

/// A step at one place of the data. A place that is not there is skipped; `set` and `rename` make the objects on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(as = Step, example = json!({"op": "drop", "path": "/card/cvv"}))
)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct StepFields {
    /// `drop` removes the value, `rename` moves it to `to`, `set` puts `value`, `mask` replaces all but the last `keep`
    /// characters by `*`.
    #[cfg_attr(feature = "schema", schema(pattern = "^(drop|rename|set|mask)$"))]
    pub op: String,
    /// A JSON Pointer (RFC 6901) into the data.
    #[cfg_attr(feature = "schema", schema(pattern = "^(/([^/~]|~[01])*)+$"))]
    pub path: String,
    /// Where `rename` moves the value: a JSON Pointer, or a key of the same object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(pattern = "^((/([^/~]|~[01])*)+|[^/]+)$"))]
    pub to: Option<String>,
    /// What `set` puts: any JSON value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub value: Option<Value>,
    /// How many characters `mask` leaves visible at the end. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

only_objects!(TransformFields, StepFields);

/// Reads null as a value, and not as an absent one.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
