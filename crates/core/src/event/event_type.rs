//! Event types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The type of an event, such as `order.created`: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
///
/// The characters are limited because an event type is also the value of the header `X-Event-Type`.
///
/// ```
/// use postrider_core::{EventPattern, EventType};
///
/// let event_type: EventType = "order.item.added".parse()?;
/// let patterns: Vec<_> = event_type.matching_patterns().map(|p| p.to_string()).collect();
/// assert_eq!(patterns, ["order.item.added", "order.item.*", "order.*", "*"]);
/// assert!("order created".parse::<EventType>().is_err());
/// # Ok::<(), postrider_core::event::EventTypeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

/// Why a text is not an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// The text is empty.
    #[error("an event type must not be empty; expected a name such as `order.created`")]
    Empty,
    /// The text is longer than [`EventType::MAX_LENGTH`].
    #[error("an event type must have at most {} characters", EventType::MAX_LENGTH)]
    TooLong,
    /// The text contains a character that is not allowed.
    #[error("an event type may only contain the characters A-Z, a-z, 0-9, `.`, `_` and `-`")]
    Character,
}

impl EventType {
    /// The greatest length, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the event type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = EventTypeError;

    fn from_str(text: &str) -> Result<Self, EventTypeError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match text.len() {
            0 => Err(EventTypeError::Empty),
            length if length > Self::MAX_LENGTH => Err(EventTypeError::TooLong),
            _ if text.bytes().all(allowed) => Ok(Self(text.into())),
            _ => Err(EventTypeError::Character),
        }
    }
}

impl TryFrom<String> for EventType {
    type Error = EventTypeError;

    fn try_from(text: String) -> Result<Self, EventTypeError> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.as_str().into()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_has_1_to_128_allowed_characters() {
        assert_eq!("".parse::<EventType>(), Err(EventTypeError::Empty));
        assert_eq!("a".repeat(129).parse::<EventType>(), Err(EventTypeError::TooLong));
        assert!("a".repeat(128).parse::<EventType>().is_ok());
        for text in ["a b", "a/b", "a\n", "é", "a*", "a\0"] {
            assert_eq!(text.parse::<EventType>(), Err(EventTypeError::Character), "{text:?}");
        }
    }
}
