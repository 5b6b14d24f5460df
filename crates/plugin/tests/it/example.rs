//! The example of the SDK, built for WebAssembly.

use postrider_plugin::{Input, Module, PluginError};

use crate::modules::{INPUT, MAX_OUTPUT};

fn redact() -> Option<Module> {
    let wasm = std::fs::read(postrider_testkit::plugin::redact()?).unwrap();
    Some(Module::compile(&wasm).unwrap())
}

#[test]
fn the_example_removes_fields() {
    let Some(module) = redact() else { return };
    let config = r#"{"fields": ["card"]}"#;
    let data = r#"{"id": 1.50, "users": [{"card": 2, "name": "ä"}], "card": 3}"#;
    let output = module.run(config, &Input { data, ..INPUT }, MAX_OUTPUT).unwrap();
    assert_eq!(output.data, r#"{"id":1.5,"users":[{"name":"ä"}]}"#);
    assert_eq!(output.headers, [("x-redacted".to_owned(), "2".to_owned())]);

    let output = module.run(config, &INPUT, MAX_OUTPUT).unwrap();
    assert_eq!((output.data.as_str(), output.headers.len()), (INPUT.data, 0), "byte for byte");
}

#[test]
fn the_example_refuses_a_wrong_configuration() {
    let Some(module) = redact() else { return };
    match module.run(r#"{"field": 1}"#, &INPUT, MAX_OUTPUT) {
        Err(PluginError::Refused(message)) => {
            assert!(message.starts_with("config: unknown field"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// The parser of the SDK stops at its own depth, so deep data ends in a message and not in a trap.
#[test]
fn the_example_survives_deep_and_large_data() {
    let Some(module) = redact() else { return };
    let config = r#"{"fields": ["card"]}"#;
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(module.run(config, &Input { data: &deep, ..INPUT }, MAX_OUTPUT).unwrap().data, deep);
    let large = format!("[{}0]", "0,".repeat(500_000));
    let error = module.run(config, &Input { data: &large, ..INPUT }, MAX_OUTPUT).unwrap_err();
    assert!(matches!(error, PluginError::Fuel), "{error:?}");
}
