//! Patterns over event types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event_type::{EventType, EventTypeError};

/// The event types that a subscriber receives: one event type, all with a prefix (`order.*`), or all (`*`).
///
/// `order.*` matches `order.created` and `order.item.added`, but neither `order` nor `orders.created`.
///
/// ```
/// use postrider_core::EventPattern;
///
/// let pattern: EventPattern = "order.*".parse()?;
/// assert!(pattern.matches(&"order.created".parse()?));
/// assert!(!pattern.matches(&"orders.created".parse()?));
/// assert!("ord*".parse::<EventPattern>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(Arc<str>);

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventPatternError {
    /// The text, or the part before `.*`, is not an event type.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// The text contains a `*` that is neither the whole text nor the last part after a dot.
    #[error("`*` may only stand alone or after the last dot, as in `order.*`")]
    Star,
}

impl EventPattern {
    /// Returns the pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches `event_type`.
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => event_type.as_str().starts_with(prefix),
            None => *self.0 == *event_type.as_str(),
        }
    }

    /// Returns whether the pattern matches everything that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => other.0.starts_with(prefix),
            None => self == other,
        }
    }
}

impl EventType {
    /// Returns every pattern that matches this event type, the most specific first: the type itself, each prefix that
    /// ends at a dot followed by `*`, and `*`.
    ///
    /// There are few, so the store finds an event's subscribers by looking these patterns up instead of matching every
    /// subscription.
    pub fn matching_patterns(&self) -> impl Iterator<Item = EventPattern> + '_ {
        let text = self.as_str();
        let prefixes = text.rmatch_indices('.').map(|(dot, _)| format!("{}.*", &text[..dot]));
        std::iter::once(text.to_owned())
            .chain(prefixes)
            .chain(std::iter::once("*".to_owned()))
            .map(|pattern| EventPattern(pattern.into()))
    }
}

impl FromStr for EventPattern {
    type Err = EventPatternError;

    fn from_str(text: &str) -> Result<Self, EventPatternError> {
        let stem = text.strip_suffix(".*").unwrap_or(text);
        if text != "*" {
            match stem.parse::<EventType>() {
                Err(EventTypeError::Character) if stem.contains('*') => return Err(EventPatternError::Star),
                other => other?,
            };
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for EventPattern {
    type Error = EventPatternError;

    fn try_from(text: String) -> Result<Self, EventPatternError> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.as_str().into()
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_alone_or_after_the_last_dot() {
        for valid in ["*", "order.*", "order.created", "a.b.*"] {
            assert!(valid.parse::<EventPattern>().is_ok(), "{valid}");
        }
        for invalid in ["", "**", "*.created", "order*", "order.*.x", ".*.", "or%"] {
            assert!(invalid.parse::<EventPattern>().is_err(), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn matching_patterns_lists_exactly_the_patterns_that_match(
            event_type in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}",
            pattern in "([a-c]{1,2}\\.){0,3}([a-c]{1,2}|\\*)",
        ) {
            let event_type: EventType = event_type.parse().unwrap();
            let pattern: EventPattern = pattern.parse().unwrap();
            prop_assert_eq!(pattern.matches(&event_type), event_type.matching_patterns().any(|p| p == pattern));
        }
    }
}
