//! Events and ids.

use postrider_core::{
    AgentId, AttemptId, DeliveryId, Envelope, EventData, EventId, EventPattern, EventType, JobId,
    SubscriberId, Timestamp,
};
use serde_json::value::RawValue;

/// Event types and patterns print as they were parsed, and a pattern matches an event type exactly if it is among that
/// type's matching patterns. A line break separates the type from the pattern.
pub fn event_type(data: &[u8]) {
    let Some((event, pattern)) = crate::two_texts(data) else { return };
    let event: Option<EventType> = event.parse().ok().inspect(|read: &EventType| {
        assert_eq!(read.as_str(), event);
        assert!((1..=128).contains(&event.len()));
        assert!(http::HeaderValue::from_str(event).is_ok(), "an event type is a header value");
        assert!(read.matching_patterns().all(|pattern| pattern.matches(read)));
    });
    let pattern: Option<EventPattern> = pattern.parse().ok().inspect(|read: &EventPattern| {
        assert_eq!(read.as_str(), pattern);
        assert!(pattern.matches('*').count() <= 1);
    });
    if let (Some(event), Some(pattern)) = (event, pattern) {
        // The store looks subscriptions up by equality, so every matching pattern must be among those looked up.
        let looked_up = event.matching_patterns().any(|candidate| candidate == pattern);
        assert_eq!(pattern.matches(&event), looked_up, "{event} {pattern}");
    }
}

/// Accepted data is in the envelope byte for byte, and the envelope is JSON with the given values. A line break separates
/// the agent id from the data.
pub fn event_data(data: &[u8]) {
    let Some((agent, json)) = crate::two_texts(data) else { return };
    let Ok(data) = EventData::from_json(json) else { return };
    assert_eq!(data.as_json(), json.trim_matches([' ', '\t', '\r', '\n']), "byte for byte");
    let again = EventData::from_json(data.as_json()).expect("accepted data is accepted again");
    assert_eq!(again.as_json(), data.as_json());

    let agent_id: AgentId = agent.parse().unwrap_or_default();
    let event: EventType = "order.created".parse().expect("an event type");
    let timestamp = Timestamp::from_seconds(1_700_000_000);
    let envelope = Envelope { event_type: &event, timestamp, agent_id: &agent_id, data: &data };
    let bytes = envelope.to_bytes();
    let read: Fields<'_> = serde_json::from_slice(&bytes).expect("the envelope is JSON");
    assert_eq!((read.event, read.timestamp), ("order.created", 1_700_000_000));
    assert_eq!(read.agent_id, agent_id.as_str());
    assert_eq!(read.data.get(), data.as_json());
}

/// The envelope as a receiver parses it. The data stays raw, because its numbers may overflow every Rust type.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    event: &'a str,
    timestamp: i64,
    agent_id: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// An id prints as it was parsed, and parses as one type of id only.
pub fn id(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let read = [
        text.parse::<EventId>().map(|id| id.to_string()),
        text.parse::<SubscriberId>().map(|id| id.to_string()),
        text.parse::<DeliveryId>().map(|id| id.to_string()),
        text.parse::<AttemptId>().map(|id| id.to_string()),
        text.parse::<JobId>().map(|id| id.to_string()),
    ];
    let read: Vec<String> = read.into_iter().flatten().collect();
    assert!(read.len() <= 1, "{read:?}");
    assert!(read.iter().all(|printed| printed == text), "{read:?}");
}
