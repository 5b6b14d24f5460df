//! What a module is given, and what it returns.

use std::borrow::Cow;
use std::fmt;

use postrider_core::event::EventDataError;
use postrider_core::header::{HeaderError, MAX_HEADERS};
use postrider_core::{CustomHeaders, EventData};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::PluginError;
use crate::limits::MAX_MESSAGE;

/// An event, as a module sees it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The event's id.
    pub id: &'a str,
    /// The event type.
    pub event_type: &'a str,
    /// The agent that emitted it.
    pub agent_id: &'a str,
    /// When it occurred, in Unix seconds.
    pub timestamp: i64,
    /// Its channels.
    pub channels: &'a [&'a str],
    /// Its data, as JSON.
    pub data: &'a str,
}

/// What a module made of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The data to send, as JSON.
    pub data: String,
    /// Headers to add to the request, with names in lower case. They satisfy the rules of [`CustomHeaders`].
    pub headers: Vec<(String, String)>,
    /// The fuel that the call took, of [`MAX_FUEL`](crate::limits::MAX_FUEL). The same input takes the same fuel.
    pub fuel: u64,
}

#[derive(Serialize)]
struct Given<'a> {
    event: GivenEvent<'a>,
    data: &'a RawValue,
    config: &'a RawValue,
}

#[derive(Serialize)]
struct GivenEvent<'a> {
    id: &'a str,
    event_type: &'a str,
    agent_id: &'a str,
    timestamp: i64,
    channels: &'a [&'a str],
}

/// The text that a module receives.
pub(crate) fn given(config: &str, input: &Input<'_>) -> Result<String, PluginError> {
    let Input { id, event_type, agent_id, timestamp, channels, data } = *input;
    let given = Given {
        event: GivenEvent { id, event_type, agent_id, timestamp, channels },
        data: serde_json::from_str(data).map_err(PluginError::Input)?,
        config: serde_json::from_str(config).map_err(PluginError::Input)?,
    };
    serde_json::to_string(&given).map_err(PluginError::Input)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Returned<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'a RawValue>,
    headers: Option<Headers>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

/// A value that is there, whatever it is.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads the text that a module returned.
pub(crate) fn returned(bytes: &[u8], fuel: u64) -> Result<Output, PluginError> {
    let text = std::str::from_utf8(bytes).map_err(PluginError::OutputText)?;
    // Serde would accept an array with the fields' values in order.
    if !text.trim_start().starts_with('{') {
        return Err(PluginError::OutputJson(de::Error::custom("expected an object")));
    }
    let Returned { data, headers, error } = serde_json::from_str(text).map_err(PluginError::OutputJson)?;
    if let Some(message) = error {
        return Err(PluginError::Refused(cut(&message).to_owned()));
    }
    let data = data.ok_or_else(|| PluginError::OutputJson(de::Error::missing_field("data")))?.get();
    if matches!(EventData::from_json(data), Err(EventDataError::TooDeep)) {
        return Err(PluginError::OutputTooDeep);
    }
    let headers = CustomHeaders::try_new(headers.unwrap_or_default().0)?;
    let headers = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Output { data: data.to_owned(), headers, fuel })
}

/// The beginning of a text, up to a whole character.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

/// Headers in their order, so that a name that is given twice is found.
#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;

        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() == MAX_HEADERS {
                        return Err(de::Error::custom(HeaderError::TooMany));
                    }
                    pairs.push(pair);
                }
                Ok(Headers(pairs))
            }
        }

        deserializer.deserialize_map(HeadersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Result<Output, PluginError> {
        returned(text.as_bytes(), 0)
    }

    #[test]
    fn data_keeps_its_bytes_in_both_directions() {
        let data = r#"{"b":1.10, "a":1e400,"a":2}"#;
        let input = Input {
            id: "evt_1",
            event_type: "order.created",
            agent_id: "a\"b",
            timestamp: 17,
            channels: &["c:1"],
            data,
        };
        let text = given(r#"{"x": 1.0}"#, &input).unwrap();
        let expected = r#"{"event":{"id":"evt_1","event_type":"order.created","agent_id":"a\"b","timestamp":17,"channels":["c:1"]},"data":{"b":1.10, "a":1e400,"a":2},"config":{"x": 1.0}}"#;
        assert_eq!(text, expected);
        assert_eq!(output(&format!(r#" {{"data": {data} }}"#)).unwrap().data, data);
        assert!(matches!(given("{", &input), Err(PluginError::Input(_))));
        assert!(matches!(given("{}", &Input { data: "{}{}", ..input }), Err(PluginError::Input(_))));
    }

    #[test]
    fn an_output_is_an_object_with_data_or_an_error() {
        for data in ["null", "1", "\"a\"", "[]"] {
            assert_eq!(output(&format!(r#"{{"data":{data},"headers":{{}}}}"#)).unwrap().data, data);
        }
        for text in ["", "[]", "[{}]", "{}", r#"{"data":}"#, r#"{"data":1}x"#, r#"{"data":1,"other":1}"#] {
            assert!(matches!(output(text), Err(PluginError::OutputJson(_))), "{text}");
        }
        assert!(matches!(returned(b"{\"data\":\"\xff\"}", 0), Err(PluginError::OutputText(_))));
        let nested = format!(r#"{{"data":{}{}}}"#, "[".repeat(101), "]".repeat(101));
        assert!(matches!(output(&nested), Err(PluginError::OutputTooDeep)));
        match output(&format!(r#"{{"error":"{}"}}"#, "é".repeat(400))) {
            Err(PluginError::Refused(message)) => assert_eq!(message, "é".repeat(250)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_are_those_that_a_subscriber_can_have() {
        let found = output(r#"{"data":1,"headers":{"X-B":"2","x-a":"1"}}"#).unwrap();
        assert_eq!(found.headers, [("x-b".into(), "2".into()), ("x-a".into(), "1".into())]);
        for headers in [r#"{"host":"a"}"#, r#"{"x-a":"\r\n"}"#, r#"{"x-a":"1","X-A":"2"}"#] {
            let text = format!(r#"{{"data":1,"headers":{headers}}}"#);
            assert!(matches!(output(&text), Err(PluginError::Headers(_))), "{headers}");
        }
        let many: Vec<String> = (0..33).map(|number| format!(r#""x-{number}":"""#)).collect();
        let text = format!(r#"{{"data":1,"headers":{{{}}}}}"#, many.join(","));
        assert!(matches!(output(&text), Err(PluginError::OutputJson(_))));
    }
}
