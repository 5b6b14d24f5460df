//! Selecting subscribers.

use postrider_core::{EventType, SubscriberUid, id};
use serde::{Deserialize, Serialize};

use crate::list::Flag;
use crate::{Cursor, Limit};

/// Selects a page of subscribers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct SubscribersQuery {
    /// Only the subscriber with this uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub uid: Option<SubscriberUid>,
    /// Only subscribers of which a pattern matches this event type. Their channels and filters are not asked.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventType>,
    /// Only active subscribers, or only the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<bool>))]
    pub active: Option<Flag>,
    /// Only subscribers with failures since their last success, or only the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<bool>))]
    pub failing: Option<Flag>,
    /// Only subscribers whose URL contains this text, in the same case; at most 2048 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, max_length = 2048))]
    pub url: Option<UrlPart>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Subscriber>>,
}

/// A part of a URL as a parameter: 1 to 2048 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPart(String);

/// The text is not a part of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of a URL has 1 to {} characters, and no control characters", UrlPart::MAX)]
pub struct UrlPartError;

impl UrlPart {
    /// The most characters.
    pub const MAX: usize = 2048;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UrlPart {
    type Error = UrlPartError;

    fn try_from(text: String) -> Result<Self, UrlPartError> {
        let fits = (1..=Self::MAX).contains(&text.chars().take(Self::MAX + 1).count());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text)) } else { Err(UrlPartError) }
    }
}

impl From<UrlPart> for String {
    fn from(UrlPart(text): UrlPart) -> Self {
        text
    }
}
