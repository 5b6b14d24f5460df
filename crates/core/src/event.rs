//! Events: what happened, who said so, and the bytes that tell it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Timestamp;

/// A kind of event, such as `order.created`: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
///
/// It travels in a header, so nothing else is let in.
///
/// ```
/// use postrider_core::{EventPattern, EventType};
///
/// let event: EventType = "order.item.added".parse()?;
/// let patterns: Vec<_> = event.matching_patterns().map(|p| p.to_string()).collect();
/// assert_eq!(patterns, ["order.item.added", "order.item.*", "order.*", "*"]);
/// assert!("order created".parse::<EventType>().is_err());
/// # Ok::<(), postrider_core::event::EventTypeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

/// The text is not an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// Nothing was given.
    #[error("an event type must not be empty")]
    Empty,
    /// Over 128 characters.
    #[error("an event type has at most 128 characters")]
    TooLong,
    /// A character outside of the set.
    #[error("an event type has only the characters A-Z, a-z, 0-9, `.`, `_` and `-`")]
    Character,
}

impl EventType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The patterns that match this type, the most exact first: itself, each prefix that ends at a
    /// dot with `*` after it, and `*`. Subscriptions are looked up by these, never by searching.
    pub fn matching_patterns(&self) -> impl Iterator<Item = EventPattern> + '_ {
        let prefixes = self.0.rmatch_indices('.').map(|(dot, _)| format!("{}.*", &self.0[..dot]));
        std::iter::once(self.0.to_string())
            .chain(prefixes)
            .chain(std::iter::once("*".to_owned()))
            .map(|pattern| EventPattern(pattern.into()))
    }
}

impl FromStr for EventType {
    type Err = EventTypeError;

    fn from_str(text: &str) -> Result<Self, EventTypeError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match text.len() {
            0 => Err(EventTypeError::Empty),
            129.. => Err(EventTypeError::TooLong),
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
    fn from(event: EventType) -> Self {
        event.as_str().into()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a subscriber asks for: an event type, a prefix with `.*`, or `*` for all.
///
/// `order.*` matches `order.created` and `order.item.added`, not `order` and not `orders.created`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(Arc<str>);

/// The text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventPatternError {
    /// The part before a `.*` is no event type, or the whole is none.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// A `*` that is neither the whole nor the last part after a dot.
    #[error("`*` stands alone or as the last part after a dot, as in `order.*`")]
    Star,
}

impl EventPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `event` is one of those asked for.
    pub fn matches(&self, event: &EventType) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => event.as_str().starts_with(prefix),
            None => *self.0 == *event.0,
        }
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

/// Who emitted an event: 1 to 128 printable ASCII characters, no space at either end.
///
/// It travels in a header (`X-Agent-ID`), so nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(Arc<str>);

/// The text is not an agent's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent id has 1 to 128 printable ASCII characters and no space at either end")]
pub struct AgentIdError;

impl AgentId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AgentId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for AgentId {
    type Err = AgentIdError;

    fn from_str(text: &str) -> Result<Self, AgentIdError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if (1..=128).contains(&text.len()) && printable && text.trim() == text {
            Ok(Self(text.into()))
        } else {
            Err(AgentIdError)
        }
    }
}

impl TryFrom<String> for AgentId {
    type Error = AgentIdError;

    fn try_from(text: String) -> Result<Self, AgentIdError> {
        text.parse()
    }
}

impl From<AgentId> for String {
    fn from(agent: AgentId) -> Self {
        agent.as_str().into()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The `data` of an event: the text of a JSON object or array, kept as given.
///
/// Kept as text because a value that was parsed and written again is another one: numbers lose
/// digits, duplicate keys vanish, keys change their order. What was given is what is signed.
///
/// ```
/// use postrider_core::EventData;
///
/// let data = EventData::from_json(r#"{"total": 1e400, "a":1, "a":2}"#)?;
/// assert_eq!(data.as_json(), r#"{"total": 1e400, "a":1, "a":2}"#);
/// assert!(EventData::from_json("\"text\"").is_err());
/// # Ok::<(), postrider_core::event::EventDataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventData(Box<RawValue>);

/// The value cannot be the data of an event.
#[derive(Debug, thiserror::Error)]
pub enum EventDataError {
    /// Not JSON, or a value that has no JSON form.
    #[error("data is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A string, a number, a boolean or null.
    #[error("data must be an object or an array")]
    NotAContainer,
    /// Deeper than [`EventData::MAX_DEPTH`].
    #[error("data is nested deeper than {} levels", EventData::MAX_DEPTH)]
    TooDeep,
}

impl EventData {
    /// How deep objects and arrays may nest. Receivers' parsers commonly stop at 128.
    pub const MAX_DEPTH: usize = 100;

    /// From JSON text, of which every byte is kept but white space around it.
    ///
    /// # Errors
    /// If the text is no JSON, neither object nor array, or nested too deep.
    pub fn from_json(text: &str) -> Result<Self, EventDataError> {
        Self::from_raw(serde_json::from_str(text)?)
    }

    /// From JSON text that a parser has already found well-formed.
    ///
    /// # Errors
    /// If it is neither object nor array, or nested too deep.
    pub fn from_raw(raw: Box<RawValue>) -> Result<Self, EventDataError> {
        if !raw.get().starts_with(['{', '[']) {
            return Err(EventDataError::NotAContainer);
        }
        if depth(raw.get()) > Self::MAX_DEPTH {
            return Err(EventDataError::TooDeep);
        }
        Ok(Self(raw))
    }

    /// From anything that serialises to an object or an array.
    ///
    /// # Errors
    /// If it does not serialise, is neither object nor array, or is nested too deep.
    pub fn from_value(value: &(impl Serialize + ?Sized)) -> Result<Self, EventDataError> {
        Self::from_raw(serde_json::value::to_raw_value(value)?)
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

/// How deep well-formed JSON nests.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The body that every subscriber of an event receives, fixed at dispatch.
///
/// ```
/// use postrider_core::{AgentId, Envelope, EventData, EventType, Timestamp};
///
/// let envelope = Envelope {
///     event_type: &"ai.response".parse::<EventType>()?,
///     timestamp: Timestamp::from_seconds(1_700_000_000),
///     agent_id: &"my-agent".parse::<AgentId>()?,
///     data: &EventData::from_json(r#"{"a": 1}"#)?,
/// };
/// assert_eq!(
///     envelope.to_bytes(),
///     br#"{"event":"ai.response","timestamp":1700000000,"agent_id":"my-agent","data":{"a": 1}}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The event's type.
    pub event_type: &'a EventType,
    /// When it was dispatched; written as whole Unix seconds.
    pub timestamp: Timestamp,
    /// Who emitted it.
    pub agent_id: &'a AgentId,
    /// What it says.
    pub data: &'a EventData,
}

impl Envelope<'_> {
    /// The body's bytes: keys in the order of the fields, no white space but what `data` has.
    pub fn to_bytes(&self) -> Vec<u8> {
        // An event type needs no escapes; an agent id may hold `"` and `\`.
        let agent = self.agent_id.as_str().replace('\\', r"\\").replace('"', r#"\""#);
        format!(
            r#"{{"event":"{}","timestamp":{},"agent_id":"{agent}","data":{}}}"#,
            self.event_type,
            self.timestamp.seconds(),
            self.data.as_json()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn event_types_are_bounded() {
        assert_eq!("".parse::<EventType>(), Err(EventTypeError::Empty));
        assert_eq!("a".repeat(129).parse::<EventType>(), Err(EventTypeError::TooLong));
        assert!("a".repeat(128).parse::<EventType>().is_ok());
        for odd in ["a b", "a/b", "a\n", "é", "a*", "a\0"] {
            assert_eq!(odd.parse::<EventType>(), Err(EventTypeError::Character), "{odd:?}");
        }
    }

    #[test]
    fn patterns_are_checked() {
        for good in ["*", "order.*", "order.created", "a.b.*"] {
            assert!(good.parse::<EventPattern>().is_ok(), "{good}");
        }
        for odd in ["", "**", "*.created", "order*", "order.*.x", ".*.", "or%"] {
            assert!(odd.parse::<EventPattern>().is_err(), "{odd}");
        }
    }

    #[test]
    fn data_is_an_object_or_an_array_of_bounded_depth() {
        for json in ["1", "\"a\"", "null", "true"] {
            assert!(matches!(EventData::from_json(json), Err(EventDataError::NotAContainer)), "{json}");
        }
        assert!(matches!(EventData::from_json("{"), Err(EventDataError::Json(_))));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(EventData::from_json(&nested(100)).is_ok());
        assert!(matches!(EventData::from_json(&nested(101)), Err(EventDataError::TooDeep)));
        let brackets_in_text = format!(r#"["\"{}"]"#, "[".repeat(200));
        assert!(EventData::from_json(&brackets_in_text).is_ok());
    }

    proptest! {
        #[test]
        fn a_pattern_matches_exactly_when_it_is_among_the_matching(
            event in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}",
            pattern in "([a-c]{1,2}\\.){0,3}([a-c]{1,2}|\\*)",
        ) {
            let event: EventType = event.parse().unwrap();
            let pattern: EventPattern = pattern.parse().unwrap();
            prop_assert_eq!(pattern.matches(&event), event.matching_patterns().any(|p| p == pattern));
        }

        #[test]
        fn the_envelope_is_json_that_says_what_was_given(agent in "[!-~]([ -~]{0,20}[!-~])?", seconds in 0_i64..4_000_000_000) {
            let agent_id: AgentId = agent.parse().unwrap();
            let event = "a.b".parse().unwrap();
            let data = EventData::from_json("[1]").unwrap();
            let bytes = Envelope { event_type: &event, timestamp: Timestamp::from_seconds(seconds), agent_id: &agent_id, data: &data }.to_bytes();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(value, serde_json::json!({"event": "a.b", "timestamp": seconds, "agent_id": agent, "data": [1]}));
        }
    }
}
