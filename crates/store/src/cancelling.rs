//! Cancelling many pending deliveries at once.

use std::collections::{BTreeMap, HashMap};

use postrider_core::{DeliveryId, DeliveryStatus, EventType, TenantId};
use postrider_database::{Transaction, Writes};
use postrider_queue::{JobId, LaneId};

use crate::attempt::End;
use crate::deliveries::Delivery;
use crate::draining::{count, end_deliveries};
use crate::queue_ids::{lane_of, queued};
use crate::rollups::deliveries::{Counts, add};
use crate::rollups::key::Key;
use crate::{Store, StoreError};

/// What was cancelled.
#[derive(Default)]
pub(crate) struct Cancelled {
    /// How many deliveries, by event type.
    pub(crate) deliveries: HashMap<EventType, u64>,
    /// Their jobs, to tell the queue about after the commit.
    pub(crate) jobs: BTreeMap<LaneId, Vec<JobId>>,
}

impl Store {
    /// Cancels those of these deliveries that are pending, with their jobs. A request that is in flight still finishes, and
    /// its attempt is recorded.
    pub(crate) async fn cancel_pending(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        found: &[Delivery],
    ) -> Result<Cancelled, StoreError> {
        let pending = || found.iter().filter(|delivery| delivery.status == DeliveryStatus::Pending);
        let jobs = pending().filter_map(|delivery| Some((delivery, delivery.job?)));
        let named: Vec<_> =
            jobs.map(|(delivery, job)| (tenant.as_str(), delivery.id.uuid(), job.uuid())).collect();
        let mut cancelled = Cancelled::default();
        if named.is_empty() {
            return Ok(cancelled);
        }
        let tables = self.tables_of(pending().map(|delivery| delivery.id));
        let ended = end_deliveries(transaction, &tables, &named, End::Cancelled).await?;
        let by_id: HashMap<DeliveryId, &Delivery> =
            pending().map(|delivery| (delivery.id, delivery)).collect();
        let of: Vec<_> = ended.iter().filter_map(|ended| Some((*by_id.get(&ended.id)?, ended))).collect();
        let mut counts: HashMap<Key, Counts> = HashMap::new();
        for (delivery, ended) in &of {
            *cancelled.deliveries.entry(delivery.event_type.clone()).or_default() += 1;
            count(&mut counts, delivery.subscriber, ended, End::Cancelled);
            if let Some(job) = delivery.job {
                cancelled.jobs.entry(lane_of(delivery.subscriber)).or_default().push(queued(job));
            }
        }
        let mut writes = Writes::new();
        add(counts, &mut writes);
        let of = of.into_iter().map(|(delivery, ended)| (delivery.subscriber, ended));
        self.note_ended(of, End::Cancelled, &mut writes);
        writes.execute(transaction).await?;
        // Lanes are locked in the order of their ids.
        for (lane, jobs) in &cancelled.jobs {
            self.queue.cancel_in(transaction, *lane, jobs).await?;
        }
        Ok(cancelled)
    }
}
