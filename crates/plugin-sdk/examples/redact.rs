//! A plugin that removes members from an event's data, wherever they are, and says in a header how many there were.
//!
//! Its configuration: `{"fields": ["password", "card"]}`.
//!
//! ```text
//! cargo build -p postrider-plugin-sdk --example redact --profile plugin --target wasm32-unknown-unknown
//! ```

use postrider_plugin_sdk::{Error, Input, Output, plugin};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    fields: Vec<String>,
}

fn redact(input: &Input<'_>) -> Result<Output, Error> {
    let Config { fields } = input.config()?;
    let mut data: Value = input.data()?;
    match remove(&mut data, &fields) {
        // What is not touched keeps its bytes.
        0 => Ok(Output::json(input.data.to_owned())),
        removed => Ok(Output::new(&data)?.header("x-redacted", removed.to_string())),
    }
}

plugin!(redact);

/// Returns how many members it removed.
fn remove(value: &mut Value, fields: &[String]) -> usize {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|name, _| !fields.contains(name));
            before - members.len() + members.values_mut().map(|inner| remove(inner, fields)).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(|item| remove(item, fields)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(data: &str, config: &str) -> String {
        let event =
            r#"{"id":"evt_1","event_type":"user.created","agent_id":"a","timestamp":1,"channels":[]}"#;
        let given = format!(r#"{{"event":{event},"data":{data},"config":{config}}}"#);
        postrider_plugin_sdk::run(redact, &given)
    }

    #[test]
    fn the_fields_are_removed_wherever_they_are() {
        let found = run(r#"{"id":1,"users":[{"card":2,"name":"a"}],"card":3}"#, r#"{"fields":["card"]}"#);
        assert_eq!(found, r#"{"data":{"id":1,"users":[{"name":"a"}]},"headers":{"x-redacted":"2"}}"#);
    }

    #[test]
    fn data_without_the_fields_keeps_its_bytes() {
        assert_eq!(run(r#"{"a":1e2, "b":1}"#, r#"{"fields":["c"]}"#), r#"{"data":{"a":1e2, "b":1}}"#);
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        assert!(run("{}", r#"{"field":"card"}"#).starts_with(r#"{"error":"config: "#));
    }
}
