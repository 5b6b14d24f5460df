//! The envelope: an event as subscribers receive it.

use super::agent::AgentId;
use super::data::EventData;
use super::event_type::EventType;
use crate::Timestamp;

/// The parts of an event's body. Every subscriber receives the same bytes, which are fixed at dispatch.
///
/// ```
/// use postrider_core::{AgentId, Envelope, EventData, EventType, Timestamp};
///
/// let envelope = Envelope {
///     event_type: &"ai.response".parse::<EventType>()?,
///     timestamp: Timestamp::from_seconds(1_700_000_000),
///     agent_id: &"my-agent".parse::<AgentId>()?,
///     data: &EventData::from_json(r#"{"a": 1}"#)?,
/// };
/// assert_eq!(
///     envelope.to_bytes(),
///     br#"{"event":"ai.response","timestamp":1700000000,"agent_id":"my-agent","data":{"a": 1}}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The event type; `event` in the JSON.
    pub event_type: &'a EventType,
    /// The time of dispatch; whole Unix seconds in the JSON.
    pub timestamp: Timestamp,
    /// The program that emitted the event.
    pub agent_id: &'a AgentId,
    /// The event's data, inserted byte for byte.
    pub data: &'a EventData,
}

impl Envelope<'_> {
    /// Serialises the envelope: keys in the order of the fields, and no white space except that of `data`.
    pub fn to_bytes(&self) -> Vec<u8> {
        // An event type needs no escapes; an agent id may contain `"` and `\`.
        let agent = self.agent_id.as_str().replace('\\', r"\\").replace('"', r#"\""#);
        let head = format!(
            r#"{{"event":"{}","timestamp":{},"agent_id":"{agent}","data":"#,
            self.event_type,
            self.timestamp.seconds(),
        );
        // At its exact size, because data may be large.
        [head.as_str(), self.data.as_json(), "}"].concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_envelope_is_json_with_the_given_values(
            agent in "[!-~]([ -~]{0,20}[!-~])?", seconds in 0_i64..4_000_000_000,
        ) {
            let envelope = Envelope {
                event_type: &"a.b".parse().unwrap(),
                timestamp: Timestamp::from_seconds(seconds),
                agent_id: &agent.parse().unwrap(),
                data: &EventData::from_json("[1]").unwrap(),
            };
            let value: serde_json::Value = serde_json::from_slice(&envelope.to_bytes()).unwrap();
            let expected = serde_json::json!({"event": "a.b", "timestamp": seconds, "agent_id": agent, "data": [1]});
            prop_assert_eq!(value, expected);
        }
    }
}
