//! What the formats of subscribers need.

use postrider_core::only_objects;
use serde::{Deserialize, Serialize};

use super::fields::Change;

/// What a format needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(example = json!({})))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct FormatOptions {
    /// The text of a `slack` message: 1 to 4000 characters, in which `{{event}}`, `{{id}}`, `{{agent_id}}`, `{{timestamp}}`,
    /// `{{data}}` and members of the data such as `{{data.order.id}}` stand for parts of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 4000, example = "Order {{data.id}} is paid"))]
    pub template: Option<String>,
}

/// Changes to what a format needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct FormatOptionChanges {
    /// The text of a `slack` message.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub template: Change<String>,
}

only_objects!(FormatOptions, FormatOptionChanges);
