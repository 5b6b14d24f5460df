//! Making what viewers are sent.

use bytes::Bytes;
use postrider_api::tail::{LeftOutReason, LeftOutView, TailAttemptView};
use postrider_core::id::TailPlaceId;
use postrider_core::{TenantId, chain};
use postrider_store::tail::{TailDelivery, TailDetail, TailRow, TailWhat};
use postrider_store::{Store, StoreError};
use serde::Serialize;
use serde_json::json;

use crate::deliveries::{attempt_view, delivery_view, hidden};
use crate::events::event_view;
use crate::viewers::Item;

/// Reads what belongs to a row. `None` if it does not exist any more.
pub(super) async fn read(
    store: &Store,
    tenant: &TenantId,
    row: &TailRow,
) -> Result<Option<Item>, StoreError> {
    let plain = |name, view: &dyn erased::Json| {
        let shown = frame(name, Some(row.id), view);
        Item { id: row.id, shown, hidden: None }
    };
    Ok(match &row.what {
        TailWhat::Event(event) => Some(plain("event", &event_view(event))),
        TailWhat::LeftOut(_) => None,
        TailWhat::Delivery(happened) => {
            let Some(detail) = store.tail_detail(tenant, happened).await? else { return Ok(None) };
            match detail {
                TailDetail { delivery, attempt: None } => {
                    // Otherwise it was restarted since.
                    let is_same = delivery.status == happened.status;
                    is_same.then(|| plain("delivery", &delivery_view(delivery)))
                }
                TailDetail { attempt: Some(_), .. } => attempt_item(row.id, happened, detail),
            }
        }
    })
}

fn attempt_item(id: TailPlaceId, happened: &TailDelivery, detail: TailDetail) -> Option<Item> {
    let view = TailAttemptView {
        delivery_id: detail.delivery.id,
        event_id: detail.delivery.event_id,
        event_type: happened.event_type.clone(),
        subscriber_id: happened.subscriber,
        status: happened.status,
        attempt: attempt_view(detail.attempt?),
    };
    let shown = frame("attempt", Some(id), &view);
    let view = TailAttemptView { attempt: hidden(view.attempt.clone()), ..view };
    Some(Item { id, shown, hidden: Some(frame("attempt", Some(id), &view)) })
}

/// Says that rows are missing.
pub(super) fn left_out(count: Option<u64>, reason: LeftOutReason) -> Bytes {
    frame("left_out", None, &LeftOutView { count, reason })
}

/// Says why the stream ends.
pub(super) fn end(reason: &str) -> Bytes {
    frame("end", None, &json!({"reason": reason}))
}

/// An event of the stream (HTML, section 9.2). JSON has no line break outside of its strings, which escape them.
fn frame(name: &str, id: Option<TailPlaceId>, data: &dyn erased::Json) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("event: {name}\n{id}data: {}\n\n", data.json()).into()
}

/// A value that has a JSON form.
mod erased {
    use super::{Serialize, chain};

    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).unwrap_or_else(|error| {
                tracing::error!(error = %chain(&error), "a row of the live tail has no JSON form");
                "null".to_owned()
            })
        }
    }
}
