//! Plugins: installed, listed and removed.

use postrider_core::plugin::{PluginName, PluginVersion};
use serde::{Deserialize, Serialize};

use crate::{List, Moment};

/// A plugin to install, or to replace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(example = json!({
        "name": "empty",
        "version": "1.0.0",
        "module": "AGFzbQEAAAABEANgAAF/YAF/AX9gAn9/AX4DBAMAAQIFAwEAAQdCBAZtZW1vcnkCAA1wb3N0cmlkZXJfYWJpAAAPcG9zdHJpZGVyX2FsbG9jAAETcG9zdHJpZGVyX3RyYW5zZm9ybQACChEDBABBAQsFAEGACAsEAEILCwsRAQBBAAsLeyJkYXRhIjp7fX0="
    }))
)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct PluginRequest {
    /// The name by which subscribers choose it: 1 to 64 characters of `a-z 0-9 . _ -`, beginning with a letter or a digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = true, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub name: Option<String>,
    /// The version of its module: 1 to 64 characters of `A-Z a-z 0-9 . _ + -`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = true, pattern = "^[A-Za-z0-9._+-]{1,64}$"))]
    pub version: Option<String>,
    /// The WebAssembly module in base64, up to 4 MiB before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = true, max_length = 5_592_408, content_encoding = "base64"))]
    pub module: Option<String>,
}

/// An installed plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Plugin))]
pub struct PluginView {
    /// The name by which subscribers choose it.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "redact"))]
    pub name: PluginName,
    /// The version of its module.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "1.0.0"))]
    pub version: PluginVersion,
    /// The SHA-256 of its module, in hexadecimal.
    pub checksum: String,
    /// The bytes of its module.
    pub size: u64,
    /// When this version was installed.
    pub created_at: Moment,
}

/// All plugins.
pub type PluginList = List<PluginView>;
