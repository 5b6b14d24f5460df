//! Stored rows as the API shows them, for programs that write them elsewhere in the same form.

use postrider_api::event::PayloadGone;
use postrider_api::{attempt::AttemptView, delivery::DeliveryView, event::EventView};
use postrider_store::deliveries::{Delivery, RecordedAttempt};
use postrider_store::erasure;
use postrider_store::events::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Returns an event as `GET /v1/events` shows it.
pub fn event(event: &Event) -> EventView {
    crate::events::event_view(event)
}

/// Returns the data in a stored envelope, byte for byte.
///
/// # Errors
/// Fails if the envelope is not readable.
pub fn data(envelope: &[u8]) -> Result<Box<RawValue>, serde_json::Error> {
    #[derive(Deserialize)]
    struct StoredEnvelope {
        data: Box<RawValue>,
    }
    let envelope: StoredEnvelope = serde_json::from_slice(envelope)?;
    Ok(envelope.data)
}

/// Returns why the data of an event is gone.
pub fn payload(gone: erasure::PayloadGone) -> PayloadGone {
    crate::events::payload_view(gone)
}

/// Returns a delivery as `GET /v1/deliveries` shows it.
pub fn delivery(delivery: Delivery) -> DeliveryView {
    crate::deliveries::delivery_view(delivery)
}

/// Returns an attempt as `GET /v1/deliveries/{id}/attempts` shows it.
pub fn attempt(attempt: RecordedAttempt) -> AttemptView {
    crate::deliveries::attempt_view(attempt)
}
