//! What outcomes add to the roll-ups.

use std::collections::HashMap;

use postrider_queue::JobId;

use super::deliveries::{Applied, Change};
use crate::attempt::{End, Outcome};
use crate::rollups::{self, deliveries::Counts, key::Key, tally::Tally};

/// What a batch of outcomes adds to the roll-ups.
#[derive(Default)]
pub(super) struct Added {
    pub(super) deliveries: HashMap<Key, Counts>,
    pub(super) attempts: HashMap<Key, Tally>,
}

/// Counts these outcomes.
pub(super) fn of(outcomes: &[&Outcome], applied: &HashMap<JobId, Applied>) -> Added {
    let mut counts: HashMap<Key, Counts> = HashMap::new();
    let mut tallies: HashMap<Key, Tally> = HashMap::new();
    for outcome in outcomes {
        let delivery = &outcome.delivery;
        let Some(applied) = applied.get(&outcome.lease.job) else { continue };
        if let Some(attempt) = &outcome.attempt {
            rollups::attempts::count(&mut tallies, delivery, attempt, applied.attempts == 1);
        }
        let key = Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, delivery.created_at);
        match applied.change {
            // Whatever ended the delivery has counted it, except for this attempt.
            Change::AlreadyEnded => {
                counts.entry(key).or_default().spent += 1;
                continue;
            }
            Change::OfAnotherJob => continue,
            Change::Made if matches!(outcome.end, End::RetryIn(_)) => continue,
            Change::Made => {}
        }
        let counts = counts.entry(key).or_default();
        counts.spent += i64::from(applied.attempts);
        match outcome.end {
            End::Succeeded => counts.succeeded += 1,
            End::Dead(_) => counts.dead += 1,
            End::Cancelled => counts.cancelled += 1,
            End::RetryIn(_) => {}
        }
    }
    Added { deliveries: counts, attempts: tallies }
}
