//! Modules of plugins.

use postrider_core::CustomHeaders;
use postrider_plugin::limits::{MAX_FUEL, MAX_MODULE};
use postrider_plugin::{Input, Module};

/// The most bytes of an output here.
const MAX_OUTPUT: usize = 1024;

/// A module is refused, or its call ends within bounds, twice with the same result. A good result can be sent.
pub fn plugin(data: &[u8]) {
    let Ok(module) = Module::compile(data) else { return };
    assert!(data.len() <= MAX_MODULE);
    let input = Input {
        id: "evt_01h455vb4pex5vsknk084sn02q",
        event_type: "order.created",
        agent_id: "shop",
        timestamp: 1_700_000_000,
        channels: &["a"],
        data: r#"{"total":1.50}"#,
    };
    let config = r#"{"fields":["total"]}"#;
    let (first, second) = (module.run(config, &input, MAX_OUTPUT), module.run(config, &input, MAX_OUTPUT));
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            assert!(first.fuel <= MAX_FUEL && first.data.len() <= MAX_OUTPUT);
            serde_json::from_str::<serde::de::IgnoredAny>(&first.data).expect("JSON");
            CustomHeaders::try_new(first.headers).expect("headers");
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        (first, second) => panic!("{first:?} {second:?}"),
    }
}
