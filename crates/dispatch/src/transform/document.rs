//! A JSON document that is parsed only where it is changed.
//!
//! The rest stays the original text: numbers keep their digits, keys their spelling and order.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pointer::index;

/// A JSON value, parsed or still text.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// The original text, not parsed.
    Text(Box<RawValue>),
    Object(Vec<Member>),
    Array(Vec<Node>),
}

/// A member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The original text of the key, with its quotes. It may not be valid Unicode (`"\ud800"`).
    key: Box<RawValue>,
    value: Node,
}

/// Why a value cannot be put at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutError {
    /// The path leads through text, a number or a boolean.
    NotAContainer,
    /// The array has no such element.
    NoElement,
    /// The key cannot be serialised. Does not occur: every Rust string has a JSON form.
    Key,
}

impl Node {
    /// Parses an object or an array one level deep. Returns `None` if the text is neither.
    pub(super) fn open(json: &str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match json.trim_start().as_bytes().first()? {
            b'{' => deserializer.deserialize_map(Members).map(Self::Object).ok(),
            b'[' => deserializer.deserialize_seq(Elements).map(Self::Array).ok(),
            _ => None,
        }
    }

    /// Returns the text of a value. Of duplicate keys the last counts, as in most parsers.
    pub(super) fn at(&self, path: &[String]) -> Option<String> {
        let Some((step, rest)) = path.split_first() else { return Some(self.to_string()) };
        match self {
            Self::Text(text) => Self::open(text.get())?.at(path),
            Self::Object(members) => members.iter().rev().find(|member| member.is(step))?.value.at(rest),
            Self::Array(elements) => elements.get(index(step)?)?.at(rest),
        }
    }

    /// Removes a value with all its duplicates, and returns the last of them.
    pub(super) fn take(&mut self, path: &[String]) -> Option<Self> {
        let (step, rest) = path.split_first()?;
        self.change(|node| match node {
            Self::Text(_) => None,
            Self::Object(members) if rest.is_empty() => {
                members.extract_if(.., |member| member.is(step)).last().map(|member| member.value)
            }
            // From all duplicates, not only up to the first that has the value.
            Self::Object(members) => members
                .iter_mut()
                .filter(|member| member.is(step))
                .filter_map(|member| member.value.take(rest))
                .last(),
            Self::Array(elements) => {
                let place = index(step).filter(|&place| place < elements.len())?;
                if rest.is_empty() { Some(elements.remove(place)) } else { elements[place].take(rest) }
            }
        })
    }

    /// Puts a value at a place, replacing the value there. Creates the objects on the path.
    pub(super) fn put(&mut self, path: &[String], value: &RawValue) -> Result<(), PutError> {
        let Some((step, rest)) = path.split_first() else {
            *self = Self::Text(value.to_owned());
            return Ok(());
        };
        match self {
            Self::Text(text) => {
                let mut opened = match text.get() {
                    "null" => Self::Object(Vec::new()),
                    text => Self::open(text).ok_or(PutError::NotAContainer)?,
                };
                opened.put(path, value)?;
                *self = opened;
            }
            Self::Object(members) => {
                if rest.is_empty() {
                    let mut seen = false;
                    members.retain(|member| !member.is(step) || !std::mem::replace(&mut seen, true));
                }
                let mut found = false;
                for member in members.iter_mut().filter(|member| member.is(step)) {
                    member.value.put(rest, value)?;
                    found = true;
                }
                if !found {
                    let key = serde_json::value::to_raw_value(step).map_err(|_| PutError::Key)?;
                    members.push(Member { key, value: Self::new_at(rest, value)? });
                }
            }
            Self::Array(elements) if step == "-" => elements.push(Self::new_at(rest, value)?),
            Self::Array(elements) => {
                let element = index(step).and_then(|place| elements.get_mut(place));
                element.ok_or(PutError::NoElement)?.put(rest, value)?;
            }
        }
        Ok(())
    }

    /// Replaces a value and each of its duplicates by the result of `with` on its text. Returns whether anything was
    /// replaced.
    pub(super) fn replace(&mut self, path: &[String], with: &dyn Fn(&str) -> Option<Box<RawValue>>) -> bool {
        let Some((step, rest)) = path.split_first() else {
            let Some(new) = with(&self.to_string()) else { return false };
            *self = Self::Text(new);
            return true;
        };
        let replaced = self.change(|node| {
            let mut replaced = false;
            match node {
                Self::Text(_) => {}
                Self::Object(members) => {
                    for member in members.iter_mut().filter(|member| member.is(step)) {
                        replaced |= member.value.replace(rest, with);
                    }
                }
                Self::Array(elements) => replaced = elements.get_mut(index(step)?)?.replace(rest, with),
            }
            replaced.then_some(())
        });
        replaced.is_some()
    }

    /// Creates nested objects along a path, with the value at its end.
    fn new_at(path: &[String], value: &RawValue) -> Result<Self, PutError> {
        let mut node = Self::Object(Vec::new());
        node.put(path, value)?;
        Ok(node)
    }

    /// Parses the node and changes it. If `change` returns `None`, the node stays the original text.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let Self::Text(text) = self else { return change(self) };
        let mut opened = Self::open(text.get())?;
        let done = change(&mut opened)?;
        *self = opened;
        Some(done)
    }
}

impl Member {
    fn is(&self, name: &str) -> bool {
        let text = self.key.get();
        if text.contains('\\') {
            return serde_json::from_str::<String>(text).is_ok_and(|key| key == name);
        }
        text.get(1..text.len() - 1) == Some(name)
    }
}

/// Prints JSON, without white space between the parts that were parsed.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text.get()),
            Self::Object(members) => {
                for (place, Member { key, value }) in members.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if place == 0 { '{' } else { ',' })?;
                }
                f.write_str(if members.is_empty() { "{}" } else { "}" })
            }
            Self::Array(elements) => {
                for (place, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if place == 0 { '[' } else { ',' })?;
                }
                f.write_str(if elements.is_empty() { "[]" } else { "]" })
            }
        }
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Member>, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            members.push(Member { key, value: Node::Text(value) });
        }
        Ok(members)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Node>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(Node::Text(element));
        }
        Ok(elements)
    }
}
