//! Why transforms were rejected.

use postrider_core::event::EventTypeError;
use postrider_core::json::{Pointer, PointerError};

/// Why a hook or a configured transform was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransformsError {
    /// A hook was registered for text that is not an event type.
    #[error("the hook `{hook}` is registered for `{event_type}`: use `*` or one event type")]
    Event {
        /// The hook's name.
        hook: String,
        /// The text that it was registered for.
        event_type: String,
        /// Why that is not an event type.
        source: EventTypeError,
    },
    /// The configured transforms are not a list of tables.
    #[error("transforms must be a list of tables, each of which begins with [[transforms]]: {0}")]
    Shape(String),
    /// An entry is invalid.
    #[error("entry {number} of [[transforms]]{}", in_parentheses(event.as_deref()))]
    Entry {
        /// The entry's number in the list, from 1.
        number: usize,
        /// The value of its field `event`, if it has one.
        event: Option<String>,
        /// What is wrong with the entry.
        source: EntryError,
    },
}

fn in_parentheses(event: Option<&str>) -> String {
    event.map(|event| format!(" (event `{event}`)")).unwrap_or_default()
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A field is unknown, missing, or of the wrong type.
    #[error(transparent)]
    Fields(serde_json::Error),
    /// The event is neither `*` nor an event type.
    #[error("event: use `*` or one event type")]
    Event(#[source] EventTypeError),
    /// A place is not a JSON Pointer.
    #[error("{field}: `{pointer}` is not a place in the data")]
    Pointer {
        /// The field that holds it.
        field: &'static str,
        /// The text that was given.
        pointer: String,
        /// Why it is not a JSON Pointer.
        source: PointerError,
    },
    /// A place is the whole of the data.
    #[error("{0}: the data as a whole cannot be changed; name a place in it, such as `/card`")]
    Whole(&'static str),
    /// Two places are the same, or one is inside the other, so that their order would matter.
    #[error("{field}: `{inner}` is inside `{outer}`; use two entries, which run in their order")]
    Overlap {
        /// The field that holds both.
        field: &'static str,
        /// The place that contains the other.
        outer: Pointer,
        /// The place that is inside.
        inner: Pointer,
    },
    /// A value holds null, or one of TOML's `nan` and `inf`, which JSON lacks.
    #[error("set: `{0}` holds `nan`, `inf` or null; write it as text")]
    Value(Pointer),
    /// The entry has none of the four operations.
    #[error("the entry does nothing: give it drop, rename, set or mask")]
    Nothing,
}
