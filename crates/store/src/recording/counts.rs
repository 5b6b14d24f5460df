//! What outcomes add to the roll-ups.

use std::collections::HashMap;

use postrider_queue::JobId;

use super::deliveries::{Applied, Change};
use crate::attempt::{End, Outcome};
use crate::rollups::{attempts, counted::Counted, key::Key};

/// Counts these outcomes.
pub(super) fn of(outcomes: &[&Outcome], applied: &HashMap<JobId, Applied>) -> HashMap<Key, Counted> {
    let mut counted: HashMap<Key, Counted> = HashMap::new();
    for outcome in outcomes {
        let delivery = &outcome.delivery;
        let Some(applied) = applied.get(&outcome.lease.job) else { continue };
        if let Some(attempt) = &outcome.attempt {
            attempts::count(&mut counted, delivery, attempt, applied.attempts == 1);
        }
        let key = Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, delivery.created_at);
        match applied.change {
            // Whatever ended the delivery has counted it, except for this attempt.
            Change::AlreadyEnded => {
                counted.entry(key).or_default().counts.spent += 1;
                continue;
            }
            Change::OfAnotherJob => continue,
            Change::Made if matches!(outcome.end, End::RetryIn(_)) => continue,
            Change::Made => {}
        }
        let counts = &mut counted.entry(key).or_default().counts;
        counts.spent += i64::from(applied.attempts);
        match outcome.end {
            End::Succeeded => counts.succeeded += 1,
            End::Dead(_) => counts.dead += 1,
            End::Cancelled => counts.cancelled += 1,
            End::RetryIn(_) => {}
        }
    }
    counted
}
