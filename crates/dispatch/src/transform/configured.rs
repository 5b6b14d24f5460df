//! Transforms from the settings file.

use std::collections::BTreeMap;

use postrider_core::EventType;
use postrider_core::json::Pointer;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::draft::EventDraft;
use super::error::{EntryError, TransformsError};
use super::hook::{Hook, HookError};

/// A transform whose places and values have been validated.
#[derive(Debug)]
pub(super) struct Configured {
    name: String,
    /// Later elements of an array come before earlier ones, whose removal would move them.
    drop: Vec<Pointer>,
    /// In the same order as `drop`, for the same reason.
    rename: Vec<(Pointer, Pointer)>,
    set: Vec<(Pointer, Box<RawValue>)>,
    mask: Vec<(Pointer, usize)>,
}

/// An entry as written in the settings file.
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

/// Reads a list of entries. Each transform comes with its event type, or `None` if it is for every event.
pub(super) fn read<'de>(
    settings: impl Deserializer<'de>,
) -> Result<Vec<(Option<EventType>, Configured)>, TransformsError> {
    // Entry by entry, so that an error can name the entry.
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

/// Fails if one place is the same as another, or inside it.
fn apart(field: &'static str, pointers: &[Pointer]) -> Result<(), EntryError> {
    let mut sorted: Vec<&Pointer> = pointers.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0].holds(pair[1])) {
        Some(pair) => Err(EntryError::Overlap { field, outer: pair[0].clone(), inner: pair[1].clone() }),
        None => Ok(()),
    }
}

/// A sort key that orders elements of an array by their index.
fn order(pointer: &Pointer) -> Vec<(usize, String)> {
    let number = |step: &String| Pointer::index(step).unwrap_or_default();
    pointer.steps().iter().map(|step| (number(step), step.clone())).collect()
}

/// Returns whether a value is or contains null. TOML has no null, but its `nan` and `inf` are read as null.
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
        // Every value is taken before any is put, so that two places can be swapped.
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
