//! The JSON that Postrider and a plugin exchange.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Error, Output};

/// What a plugin is given.
#[derive(Debug, Deserialize)]
pub struct Input<'a> {
    /// What is known about the event.
    #[serde(borrow)]
    pub event: Event<'a>,
    /// The event's data, as the application gave it.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// The configuration that the subscriber chose: an object.
    #[serde(borrow)]
    pub config: &'a RawValue,
}

/// What is known about an event.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    /// The event's id, such as `evt_01h455vb4pex5vsknk084sn02q`. It is the same in every attempt.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The event type, such as `order.created`.
    #[serde(borrow)]
    pub event_type: Cow<'a, str>,
    /// The agent that emitted it.
    #[serde(borrow)]
    pub agent_id: Cow<'a, str>,
    /// When it occurred, in Unix seconds.
    pub timestamp: i64,
    /// Its channels.
    #[serde(default)]
    pub channels: Vec<String>,
}

#[derive(Serialize)]
struct Returned<'a> {
    data: &'a RawValue,
    #[serde(serialize_with = "as_object", skip_serializing_if = "<[_]>::is_empty")]
    headers: &'a [(String, String)],
}

#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
}

/// Runs a plugin on JSON, as Postrider does, and returns the JSON that Postrider would read.
pub fn run(transform: fn(&Input<'_>) -> Result<Output, Error>, given: &str) -> String {
    let output = serde_json::from_str(given).map_err(Error::from).and_then(|input| transform(&input));
    let written = match &output {
        Ok(Output { data, headers }) => serde_json::to_string(&Returned { data, headers }),
        Err(Error(error)) => serde_json::to_string(&Refused { error }),
    };
    // These structs always have a JSON form. Postrider refuses an empty output.
    written.unwrap_or_default()
}

/// Two headers of the same name stay two members, which Postrider refuses.
fn as_object<S: Serializer>(headers: &&[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(headers.len()))?;
    for (name, value) in *headers {
        object.serialize_entry(name, value)?;
    }
    object.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#"{"event":{"id":"evt_1","event_type":"a.b","agent_id":"a\"b","timestamp":17,"channels":["c"]},
        "data":{"b":1.10,"a":1e400},"config":{"x":1}}"#;

    #[test]
    fn data_passes_byte_for_byte() {
        let same = |input: &Input<'_>| {
            assert_eq!((&*input.event.agent_id, input.event.timestamp), ("a\"b", 17));
            assert_eq!(input.event.channels, ["c"]);
            Ok(Output::json(input.data.to_owned()).header("x-a", "1").header("x-a", "2"))
        };
        assert_eq!(run(same, GIVEN), r#"{"data":{"b":1.10,"a":1e400},"headers":{"x-a":"1","x-a":"2"}}"#);
    }

    #[test]
    fn an_error_is_returned_as_text() {
        assert_eq!(run(|_| Err(Error::new("no \"id\"")), GIVEN), r#"{"error":"no \"id\""}"#);
        let found = run(|input| Output::new(&input.config::<Vec<u8>>()?), GIVEN);
        assert!(found.starts_with(r#"{"error":"config: invalid type: map"#), "{found}");
        assert!(run(|_| Output::new(&1), "{").starts_with(r#"{"error":"EOF"#));
    }
}
