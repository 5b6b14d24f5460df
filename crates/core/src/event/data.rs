//! The data of events.

use serde::Serialize;
use serde_json::value::RawValue;

/// The `data` of an event: the text of a JSON object or array, byte for byte as given.
///
/// It stays text because parsing and writing JSON changes it: numbers lose digits, duplicate keys vanish, keys change
/// their order. Postrider signs the bytes that it was given.
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

/// Why a value cannot be the data of an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventDataError {
    /// The text is not JSON, or the value has no JSON form.
    #[error("data must be valid JSON")]
    Json(#[from] serde_json::Error),
    /// The value is a string, a number, a boolean or null.
    #[error("data must be an object or an array")]
    NotAContainer,
    /// Objects and arrays nest deeper than [`EventData::MAX_DEPTH`].
    #[error("data must nest at most {} levels deep", EventData::MAX_DEPTH)]
    TooDeep,
}

impl EventData {
    /// The number of levels that objects and arrays may nest. Receivers' parsers commonly stop at 128.
    pub const MAX_DEPTH: usize = 100;

    /// Parses JSON text. White space around the value is dropped; every other byte stays as it is.
    ///
    /// # Errors
    /// Fails if the text is not JSON, is neither an object nor an array, or nests too deep.
    pub fn from_json(text: &str) -> Result<Self, EventDataError> {
        Self::from_raw(serde_json::from_str(text)?)
    }

    /// Takes JSON text that a parser has already found well-formed.
    ///
    /// # Errors
    /// Fails if the value is neither an object nor an array, or nests too deep.
    pub fn from_raw(raw: Box<RawValue>) -> Result<Self, EventDataError> {
        if !raw.get().starts_with(['{', '[']) {
            return Err(EventDataError::NotAContainer);
        }
        if depth(raw.get()) > Self::MAX_DEPTH {
            return Err(EventDataError::TooDeep);
        }
        Ok(Self(raw))
    }

    /// Serialises a value.
    ///
    /// # Errors
    /// Fails if the value has no JSON form, is neither an object nor an array, or nests too deep.
    pub fn from_value(value: &(impl Serialize + ?Sized)) -> Result<Self, EventDataError> {
        Self::from_raw(serde_json::value::to_raw_value(value)?)
    }

    /// Returns the JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

/// Returns how many levels deep well-formed JSON nests.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
