//! The envelope of an event, byte for byte.

use postrider_api::event::EventDetail;
use postrider_core::{Envelope, EventData, Timestamp};

/// Returns the envelope as subscribers get it.
pub(super) fn envelope(detail: &EventDetail) -> String {
    let Ok(data) = EventData::from_raw(detail.data.clone()) else { return detail.data.get().to_owned() };
    let event = &detail.event;
    let envelope = Envelope {
        event_type: &event.event_type,
        timestamp: Timestamp::from_seconds(event.timestamp),
        agent_id: &event.agent_id,
        data: &data,
    };
    String::from_utf8_lossy(&envelope.to_bytes()).into_owned()
}
