//! The members of a JSON object, and the fields of a form made from them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in order and with duplicates; the items of an array by their numbers.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(value) = items.next_element()? {
                    members.push((Cow::Owned(members.len().to_string()), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_any(Reading)
    }
}

/// A name, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of a form (WHATWG URL, "application/x-www-form-urlencoded serializing"): scalars as text, null as an empty
/// one, and objects and arrays as JSON.
pub(super) fn form(data: &RawValue) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    // Data is an object or an array.
    let Members(members) = serde_json::from_str(data.get()).unwrap_or(Members(Vec::new()));
    for (name, value) in members {
        form.append_pair(&name, &text(value));
    }
    form.finish()
}

/// A value as text: strings without quotes, null as nothing, and everything else as it is written.
pub(super) fn text(value: &RawValue) -> Cow<'_, str> {
    match value.get() {
        "null" => "".into(),
        json if json.starts_with('"') => serde_json::from_str::<String>(json).unwrap_or_default().into(),
        json => json.into(),
    }
}
