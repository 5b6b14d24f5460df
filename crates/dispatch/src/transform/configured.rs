//! Transforms from the settings file: data, not code.

use std::collections::BTreeMap;

use postrider_core::EventType;
use postrider_core::event::EventTypeError;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::TransformsError;
use super::draft::EventDraft;
use super::hook::{Hook, HookError};
use super::pointer::{Pointer, PointerError, index};

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A field that there is not, that is missing, or that is of another kind.
    #[error("{0}")]
    Fields(serde_json::Error),
    /// The event is neither `*` nor an event type.
    #[error("event: use `*` or one event type ({0})")]
    Event(EventTypeError),
    /// A place is not a JSON Pointer.
    #[error("{field}: `{pointer}`: {source}")]
    Pointer {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        pointer: String,
        /// What is wrong with it.
        source: PointerError,
    },
    /// A place is the whole of the data, which stays an object or an array.
    #[error("{0}: the whole of the data cannot be changed; name a place in it, such as `/card`")]
    Whole(&'static str),
    /// Two places are the same, or one is inside of the other: it would matter which comes first.
    #[error("{field}: `{inner}` is inside of `{outer}`; use two entries, whose order counts")]
    Overlap {
        /// Where they stand.
        field: &'static str,
        /// The one.
        outer: Pointer,
        /// The other.
        inner: Pointer,
    },
    /// A value that TOML or JSON does not have.
    #[error("set: `{0}` holds `nan`, `inf` or null; write it as a text")]
    Value(Pointer),
    /// Nothing to do.
    #[error("it does nothing: give it drop, rename, set or mask")]
    Nothing,
}

/// A transform, with its places and values checked.
#[derive(Debug)]
pub(super) struct Configured {
    name: String,
    /// Later elements of an array before earlier ones, which would move them.
    drop: Vec<Pointer>,
    /// In the same order, for the same reason.
    rename: Vec<(Pointer, Pointer)>,
    set: Vec<(Pointer, Box<RawValue>)>,
    mask: Vec<(Pointer, usize)>,
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    event: String,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    rename: BTreeMap<String, String>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    mask: BTreeMap<String, usize>,
}

/// The transforms of a list of entries, each with its event type; none for every event.
pub(super) fn read<'de>(
    settings: impl Deserializer<'de>,
) -> Result<Vec<(Option<EventType>, Configured)>, TransformsError> {
    // Entry by entry, so that an error can say which one.
    let entries = Vec::<Value>::deserialize(settings).map_err(|error| {
        TransformsError::Shape(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let transforms = entries.into_iter().zip(1..).map(|(entry, number)| {
        let event = entry.get("event").and_then(Value::as_str).map(str::to_owned);
        read_entry(entry, number).map_err(|source| TransformsError::Entry { number, event, source })
    });
    transforms.collect()
}

fn read_entry(entry: Value, number: usize) -> Result<(Option<EventType>, Configured), EntryError> {
    let entry: Entry = serde_json::from_value(entry).map_err(EntryError::Fields)?;
    let event = match entry.event.as_str() {
        "*" => None,
        event => Some(event.parse().map_err(EntryError::Event)?),
    };
    let name = format!("[[transforms]] {number} for {}", entry.event);
    let mut drop: Vec<Pointer> = each("drop", entry.drop.iter().map(String::as_str))?;
    drop.sort_by_cached_key(|pointer| std::cmp::Reverse(order(pointer)));
    let sources = each("rename", entry.rename.keys().map(String::as_str))?;
    let targets = each("rename", entry.rename.values().map(String::as_str))?;
    let places = each("set", entry.set.keys().map(String::as_str))?;
    let masked = each("mask", entry.mask.keys().map(String::as_str))?;
    apart("rename", &sources)?;
    apart("rename", &targets)?;
    apart("set", &places)?;
    let mut rename: Vec<_> = sources.into_iter().zip(targets).collect();
    rename.sort_by_cached_key(|(from, _)| std::cmp::Reverse(order(from)));
    let set = places.into_iter().zip(entry.set.values()).map(|(place, value)| {
        if has_null(value) {
            return Err(EntryError::Value(place));
        }
        let value = serde_json::value::to_raw_value(value).map_err(EntryError::Fields)?;
        Ok((place, value))
    });
    let configured = Configured {
        name,
        drop,
        rename,
        set: set.collect::<Result<_, _>>()?,
        mask: masked.into_iter().zip(entry.mask.into_values()).collect(),
    };
    if configured.is_empty() { Err(EntryError::Nothing) } else { Ok((event, configured)) }
}

fn each<'t>(field: &'static str, texts: impl Iterator<Item = &'t str>) -> Result<Vec<Pointer>, EntryError> {
    texts
        .map(|text| {
            let pointer: Pointer = text.parse().map_err(|source| EntryError::Pointer {
                field,
                pointer: text.to_owned(),
                source,
            })?;
            if pointer.is_whole() { Err(EntryError::Whole(field)) } else { Ok(pointer) }
        })
        .collect()
}

/// No place is inside of another.
fn apart(field: &'static str, pointers: &[Pointer]) -> Result<(), EntryError> {
    let mut sorted: Vec<&Pointer> = pointers.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0].holds(pair[1])) {
        Some(pair) => Err(EntryError::Overlap { field, outer: pair[0].clone(), inner: pair[1].clone() }),
        None => Ok(()),
    }
}

/// Elements of an array by their number.
fn order(pointer: &Pointer) -> Vec<(usize, String)> {
    pointer.steps().iter().map(|step| (index(step).unwrap_or_default(), step.clone())).collect()
}

/// Whether a value, or one inside of it, is null: so TOML's `nan` and `inf` are read, and of its own it
/// has no null.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl Configured {
    fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.rename.is_empty() && self.set.is_empty() && self.mask.is_empty()
    }
}

impl Hook for Configured {
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, event: &mut EventDraft) -> Result<(), HookError> {
        for place in &self.drop {
            event.take(place);
        }
        // All taken before any is put: what swaps two places must not lose one.
        let taken: Vec<_> =
            self.rename.iter().filter_map(|(from, to)| Some((event.take(from)?, to))).collect();
        for (value, to) in taken {
            event.put(to, &value)?;
        }
        for (place, value) in &self.set {
            event.put(place, value)?;
        }
        for &(ref place, keep) in &self.mask {
            event.mask_at(place, keep);
        }
        Ok(())
    }
}
