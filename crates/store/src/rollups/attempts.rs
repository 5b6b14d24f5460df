//! Tallies of attempts.

use std::collections::HashMap;

use super::counted::Counted;
use super::key::Key;
use crate::attempt::{Attempt, DeliveryRef};

/// Counts an attempt in the minute in which it began. A first attempt also counts how long its delivery waited for it,
/// in the minute in which the delivery was created.
pub(crate) fn count(
    counted: &mut HashMap<Key, Counted>,
    delivery: &DeliveryRef,
    attempt: &Attempt,
    is_first: bool,
) {
    let key = |at| Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, at);
    counted.entry(key(attempt.started_at)).or_default().tally.attempt(attempt);
    if is_first {
        let waited = counted.entry(key(delivery.created_at)).or_default();
        waited.tally.wait(delivery.created_at, attempt.started_at);
    }
}
