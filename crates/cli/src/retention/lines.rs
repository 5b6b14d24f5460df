//! Rows as lines of JSON, in the shapes of the API.

use postrider_api::attempt::AttemptView;
use postrider_api::delivery::DeliveryView;
use postrider_api::event::{EventView, PayloadGone};
use postrider_core::{DeliveryId, TenantId};
use postrider_server::views;
use postrider_store::archive::Row;
use postrider_store::deliveries::RecordedAttempt;
use serde::Serialize;
use serde_json::value::RawValue;

/// One line. Its first fields say what it is, and whose; the others are those of the API.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Event {
        tenant: &'a TenantId,
        #[serde(flatten)]
        event: EventView,
        data: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<PayloadGone>,
    },
    Delivery {
        tenant: &'a TenantId,
        #[serde(flatten)]
        delivery: DeliveryView,
    },
    Attempt {
        tenant: &'a TenantId,
        delivery_id: DeliveryId,
        #[serde(flatten)]
        attempt: Box<AttemptView>,
    },
}

/// Appends the lines of a row: one, or two for a delivery with its first attempt. Returns how many.
///
/// # Errors
/// Fails if the row's envelope is not readable.
pub(super) fn write(row: &Row, lines: &mut Vec<u8>) -> Result<u64, serde_json::Error> {
    let attempt_of = |tenant, delivery_id, attempt: &RecordedAttempt| Line::Attempt {
        tenant,
        delivery_id,
        attempt: Box::new(views::attempt(attempt.clone())),
    };
    let (first, second) = match row {
        Row::Event { tenant, event, envelope } => {
            let data = match envelope {
                Some(envelope) => views::data(envelope)?,
                None => RawValue::NULL.to_owned(),
            };
            let payload = event.payload_gone.map(views::payload);
            (Line::Event { tenant, event: views::event(event), data, payload }, None)
        }
        Row::Delivery { tenant, delivery, first_attempt } => (
            Line::Delivery { tenant, delivery: views::delivery(delivery.clone()) },
            first_attempt.as_ref().map(|attempt| attempt_of(tenant, delivery.id, attempt)),
        ),
        Row::Attempt { tenant, delivery, attempt } => (attempt_of(tenant, *delivery, attempt), None),
    };
    let mut written = 0;
    for line in std::iter::once(first).chain(second) {
        let start = lines.len();
        serde_json::to_writer(&mut *lines, &line)?;
        // The data is as it was given, which may be several lines. Outside of strings, any white space means the same, and
        // inside of them JSON has no line breaks.
        for byte in &mut lines[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        lines.push(b'\n');
        written += 1;
    }
    Ok(written)
}
