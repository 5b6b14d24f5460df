//! A JSON document that is parsed only where it is changed.
//!
//! The rest stays the original text: numbers keep their digits, keys their spelling and order.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::mask::masked;
use super::pointer::Pointer;

/// A JSON value, parsed or still text.
///
/// ```
/// use postrider_core::json::{Document, Pointer};
///
/// let mut document = Document::open(r#"{"total": 9.50, "card": {"number": "4111", "cvv": "123"}}"#).ok_or("neither")?;
/// let cvv: Pointer = "/card/cvv".parse()?;
/// assert!(document.take(&cvv).is_some());
/// assert_eq!(document.to_string(), r#"{"total":9.50,"card":{"number":"4111"}}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Document(Node);

#[derive(Clone, Debug)]
enum Node {
    /// The original text, not parsed.
    Text(Box<RawValue>),
    Object(Vec<Member>),
    Array(Vec<Node>),
}

/// A member of an object.
#[derive(Clone, Debug)]
struct Member {
    /// The original text of the key, with its quotes. It may not be valid Unicode (`"\ud800"`).
    key: Box<RawValue>,
    value: Node,
}

/// Why a value cannot be put at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The path leads through text, a number or a boolean.
    #[error("the path leads through text, a number or a boolean")]
    NotAContainer,
    /// The array has no such element.
    #[error("the array has no such element")]
    NoElement,
}

impl Document {
    /// Parses an object or an array one level deep. Returns `None` if the text is neither.
    pub fn open(json: &str) -> Option<Self> {
        Node::open(json).map(Self)
    }

    /// Returns the text of the value at a place. Of duplicate keys the last counts, as in most parsers.
    pub fn at(&self, place: &Pointer) -> Option<String> {
        self.0.at(place.steps())
    }

    /// Removes the value at a place with all its duplicates, and returns the last of them.
    pub fn take(&mut self, place: &Pointer) -> Option<Box<RawValue>> {
        match self.0.take(place.steps())? {
            Node::Text(text) => Some(text),
            // Printing a parsed value gives valid JSON.
            open => RawValue::from_string(open.to_string()).ok(),
        }
    }

    /// Puts a value at a place, replacing the value there. Creates the objects on the path.
    ///
    /// # Errors
    /// Fails if the path leads through text, a number or a boolean, or past an array's end.
    pub fn put(&mut self, place: &Pointer, value: &RawValue) -> Result<(), PutError> {
        self.0.put(place.steps(), value)
    }

    /// Masks all but the last `keep` characters of the value at a place, and of its duplicates. Text that is no longer is masked
    /// as a whole, a number by its digits, and any other value except null becomes `****`. Returns whether anything was masked.
    pub fn mask(&mut self, place: &Pointer, keep: usize) -> bool {
        self.0.replace(place.steps(), &|text| masked(text, keep))
    }
}

/// An empty object.
impl Default for Document {
    fn default() -> Self {
        Self(Node::Object(Vec::new()))
    }
}

/// Prints JSON, without white space between the parts that were parsed.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Node {
    fn open(json: &str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match json.trim_start().as_bytes().first()? {
            b'{' => deserializer.deserialize_map(Members).map(Self::Object).ok(),
            b'[' => deserializer.deserialize_seq(Elements).map(Self::Array).ok(),
            _ => None,
        }
    }

    /// Returns the text of a value. Of duplicate keys the last counts, as in most parsers.
    fn at(&self, path: &[String]) -> Option<String> {
        let Some((step, rest)) = path.split_first() else { return Some(self.to_string()) };
        match self {
            Self::Text(text) => Self::open(text.get())?.at(path),
            Self::Object(members) => members.iter().rev().find(|member| member.is(step))?.value.at(rest),
            Self::Array(elements) => elements.get(Pointer::index(step)?)?.at(rest),
        }
    }

    /// Removes a value with all its duplicates, and returns the last of them.
    fn take(&mut self, path: &[String]) -> Option<Self> {
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
                let place = Pointer::index(step).filter(|&place| place < elements.len())?;
                if rest.is_empty() { Some(elements.remove(place)) } else { elements[place].take(rest) }
            }
        })
    }

    /// Puts a value at a place, replacing the value there. Creates the objects on the path.
    fn put(&mut self, path: &[String], value: &RawValue) -> Result<(), PutError> {
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
                    // Every Rust string has a JSON form, so this does not fail.
                    let key = serde_json::value::to_raw_value(step).map_err(|_| PutError::NotAContainer)?;
                    members.push(Member { key, value: Self::new_at(rest, value)? });
                }
            }
            Self::Array(elements) if step == "-" => elements.push(Self::new_at(rest, value)?),
            Self::Array(elements) => {
                let element = Pointer::index(step).and_then(|place| elements.get_mut(place));
                element.ok_or(PutError::NoElement)?.put(rest, value)?;
            }
        }
        Ok(())
    }

    /// Replaces a value and each of its duplicates by the result of `with` on its text. Returns whether anything was
    /// replaced.
    fn replace(&mut self, path: &[String], with: &dyn Fn(&str) -> Option<Box<RawValue>>) -> bool {
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
                Self::Array(elements) => {
                    replaced = elements.get_mut(Pointer::index(step)?)?.replace(rest, with);
                }
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
