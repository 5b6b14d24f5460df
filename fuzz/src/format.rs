//! Formats, and the templates of one of them.

use postrider_core::format::{Format, Template};
use postrider_core::{AgentId, Envelope, EventData, EventId, EventType, Timestamp};
use serde_json::Value;

/// Every format of every event is what its content type says, with headers that can be sent, and keeps the data byte for byte
/// if it has it. The first line is a template, the second one an agent, and the rest data.
pub fn format(data: &[u8]) {
    let Some((template, rest)) = crate::two_texts(data) else { return };
    let template: Template = template.parse().unwrap_or_else(|_| "{{data}}".parse().expect("a template"));
    let (agent, json) = rest.split_once('\n').unwrap_or(("", rest));
    let Ok(data) = EventData::from_json(json) else { return };
    let (agent_id, event_type): (AgentId, EventType) =
        (agent.parse().unwrap_or_default(), "order.created".parse().expect("an event type"));
    let timestamp = Timestamp::from_seconds(1_700_000_000);
    let envelope =
        Envelope { event_type: &event_type, timestamp, agent_id: &agent_id, data: &data }.to_bytes();
    let id: EventId = "evt_01h455vb4pex5vsknk084sn02q".parse().expect("an id");
    let given = data.as_json();
    for format in [
        Format::Postrider,
        Format::Standard,
        Format::Data,
        Format::CloudEvents,
        Format::CloudEventsBinary,
        Format::Slack { template },
        Format::Form,
    ] {
        let rendered = format.render(id, &envelope).expect("an envelope");
        let body = std::str::from_utf8(&rendered.body).expect("text");
        for (name, value) in &rendered.headers {
            assert!(http::HeaderName::from_lowercase(name.as_bytes()).is_ok(), "{name}");
            assert!(http::HeaderValue::from_str(value).is_ok(), "{value}");
        }
        match format {
            Format::Slack { .. } => {
                let message: Value = serde_json::from_str(body).expect("JSON");
                let text = message["text"].as_str().expect("a text");
                assert!(text.chars().count() <= Template::MAX_RENDERED);
            }
            Format::Form => assert!(body.bytes().all(|byte| byte.is_ascii_graphic())),
            _ => assert!(body.contains(given), "{format:?}"),
        }
    }
}
