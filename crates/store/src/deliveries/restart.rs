//! Making ended deliveries pending again.

use std::collections::HashMap;

use postrider_core::{DeliveryStatus, JobId, TenantId};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction, Writes};
use postrider_queue::NewJob;

use super::read::Delivery;
use crate::queue_ids::{lane_of, queued};
use crate::rollups::deliveries::{Counts, add};
use crate::rollups::key::Key;
use crate::row::PENDING;
use crate::{Store, StoreError};

/// Which earlier attempts count against the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptBudget {
    /// None: a new round, with the full schedule.
    FromZero,
    /// All of them: a delivery that has used up its attempts gets one more.
    Keep,
}

/// Makes ended deliveries pending again, each with a new job. They must be locked by `transaction`. Returns the jobs, for
/// [`TransactionalQueue::enqueued`](postrider_queue::TransactionalQueue::enqueued) after the commit.
pub(crate) async fn restart(
    store: &Store,
    transaction: &Transaction,
    tenant: &TenantId,
    ended: &[Delivery],
    budget: AttemptBudget,
) -> Result<Vec<NewJob>, StoreError> {
    const RESTARTED: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("job", Kind::Uuid)];
    let mut input = Batch::new(RESTARTED);
    let mut jobs = Vec::with_capacity(ended.len());
    let mut counts: HashMap<Key, Counts> = HashMap::new();
    for delivery in ended {
        let job: JobId = store.ids.next();
        input.push([delivery.id.uuid().into(), job.uuid().into()]);
        jobs.push(NewJob::now(
            queued(job),
            lane_of(delivery.subscriber),
            tenant.as_str(),
            delivery.id.uuid(),
        ));
        // Takes back what was counted when the delivery ended.
        let counts = counts.entry(rollup_key(tenant, delivery)).or_default();
        counts.spent -= i64::from(delivery.attempts);
        match delivery.status {
            DeliveryStatus::Succeeded => counts.succeeded -= 1,
            DeliveryStatus::Dead => counts.dead -= 1,
            DeliveryStatus::Cancelled => counts.cancelled -= 1,
            DeliveryStatus::Pending => {}
        }
    }
    let round_start = match budget {
        AttemptBudget::FromZero => "attempts",
        AttemptBudget::Keep => "round_start",
    };
    // For a range, SQLite would rather read all deliveries of the tenant.
    let theirs = match Dialect::of(transaction) {
        Dialect::Postgres => "deliveries.id BETWEEN input.id AND input.id",
        Dialect::Sqlite => "deliveries.id = input.id",
    };
    let sql = format!(
        "UPDATE deliveries SET status = {PENDING}, job_id = input.job, round_start = {round_start}, \
            next_attempt_at = NULL, dead_reason = NULL, died_at = NULL, ended_at = NULL \
        FROM input WHERE deliveries.tenant = $1 AND {theirs}"
    );
    input.execute(transaction, &sql, [tenant.as_str().into()]).await?;
    let mut writes = Writes::new();
    add(counts, &mut writes);
    // The subscriber may have been deleted.
    store.queue.keep_lanes_with(tenant.as_str(), &jobs.iter().map(|job| job.lane).collect(), &mut writes);
    store.queue.enqueue_with(&jobs, &mut writes);
    writes.execute(transaction).await?;
    Ok(jobs)
}

/// The key under which a delivery is counted.
pub(super) fn rollup_key(tenant: &TenantId, delivery: &Delivery) -> Key {
    Key::new(tenant, delivery.subscriber, &delivery.event_type, delivery.created_at)
}
