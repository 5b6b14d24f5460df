//! What happened, for those who follow it.

use std::collections::HashMap;

use postrider_core::DeliveryStatus;
use postrider_database::Writes;
use postrider_queue::JobId;

use super::deliveries::{Applied, Change};
use crate::Store;
use crate::attempt::Outcome;
use crate::row::unsigned;
use crate::tail::Happened;

impl Store {
    /// Adds to `writes` the attempts and ends of deliveries of tenants that somebody follows.
    pub(super) fn note_outcomes(
        &self,
        outcomes: &[&Outcome],
        applied: &HashMap<JobId, Applied>,
        writes: &mut Writes,
    ) {
        if !self.watched.is_any() {
            return;
        }
        let mut happened = Vec::new();
        for outcome in outcomes {
            let Some(applied) = applied.get(&outcome.lease.job) else { continue };
            let is_made = matches!(applied.change, Change::Made);
            let status = if is_made { outcome.end.status() } else { DeliveryStatus::Pending };
            let attempt = outcome.attempt.as_ref().map(|_| unsigned(applied.attempts));
            let has_ended = is_made && status != DeliveryStatus::Pending;
            let all = attempt.map(Some).into_iter().chain(has_ended.then_some(None));
            happened.extend(all.map(|attempt| Happened {
                tenant: &outcome.delivery.tenant,
                delivery: outcome.delivery.id,
                subscriber: outcome.delivery.subscriber,
                event_type: &outcome.delivery.event_type,
                status,
                attempt,
            }));
        }
        self.note_with(&happened, writes);
    }
}
