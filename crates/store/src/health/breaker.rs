//! Opening circuit breakers after failures.

use std::time::Duration;

use postrider_core::subscriber::NoticeKind;
use postrider_core::{DeactivationReason, SubscriberId, Timestamp};
use postrider_database::sql::{column, execute};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use postrider_queue::TransactionalQueue;
use sea_orm::QueryResult;

use super::deactivate::{Judged, Locked, deactivate};
use super::fault::{Results, SubscriberResult};
use super::notice::Notice;
use super::policy::BreakerPolicy;
use crate::StoreError;
use crate::queue_ids::lane_of;
use crate::row::{millis, timestamp, unsigned};

/// Counts the failures of a batch. Opens the breakers, or deactivates the subscribers, that `policy` says.
pub(super) async fn open_breakers(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    results: &Results<'_>,
    policy: &BreakerPolicy,
    locked: &Locked,
) -> Result<Judged, StoreError> {
    let mut notices = Vec::new();
    let mut to_lock = Vec::new();
    for row in count_failures(transaction, results, policy).await? {
        let state = BreakerRow::read(&row)?;
        let Some(result) = results.get(&state.id) else { continue };
        if policy.deactivate_after.is_some_and(|limit| state.now.since(state.failing_since) >= limit) {
            if !locked.has(state.id) {
                to_lock.push(state.id);
                continue;
            }
            let reason = DeactivationReason::Failing;
            notices.extend(deactivate(queue, transaction, result.tenant, state.id, reason).await?);
        } else if state.opens(result, policy) {
            let pause = policy.pause(state.openings);
            set_open(transaction, state.id, pause).await?;
            queue.pause_in(transaction, lane_of(state.id), pause).await?;
            notices.push(Notice::CircuitOpened {
                tenant: result.tenant.clone(),
                subscriber: state.id,
                failures: state.failures,
                pause,
            });
        }
    }
    Ok(if to_lock.is_empty() { Judged::Done(notices) } else { Judged::Lock(to_lock) })
}

/// Counts failures of active subscribers. Others have no row that nobody would remove: this transaction has locked the
/// lane of each, and so does whatever deactivates or deletes a subscriber.
async fn count_failures(
    transaction: &Transaction,
    results: &Results<'_>,
    policy: &BreakerPolicy,
) -> Result<Vec<QueryResult>, StoreError> {
    const FAILED: &[Column] = &[Column::new("subscriber_id", Kind::Uuid), Column::new("failures", Kind::Int)];
    let mut input = Batch::new(FAILED);
    for (id, result) in results.iter().filter(|(_, result)| result.failures > 0) {
        input.push([id.uuid().into(), result.failures.into()]);
    }
    let now = Dialect::of(transaction).now();
    let first = policy.notices().into_iter().map(|(_, after)| after).min();
    let notify_at =
        first.map_or_else(|| "CAST(NULL AS bigint)".to_owned(), |after| format!("{now} + {}", millis(after)));
    let sql = format!(
        "INSERT INTO health (subscriber_id, failures, first_failed_at, openings, notify_at) \
         SELECT subscriber_id, failures, {now}, 0, {notify_at} FROM input \
         WHERE (SELECT 1 FROM subscribers WHERE subscribers.id = input.subscriber_id AND active LIMIT 1) IS NOT NULL \
         ON CONFLICT (subscriber_id) DO UPDATE SET failures = health.failures + excluded.failures \
         RETURNING subscriber_id, failures, first_failed_at, openings, opened_at, open_until, {now} AS now"
    );
    Ok(input.query(transaction, &sql, []).await?)
}

/// A subscriber's row in `health`, after its failures were counted.
struct BreakerRow {
    id: SubscriberId,
    failures: u32,
    failing_since: Timestamp,
    openings: u32,
    opened_at: Option<Timestamp>,
    open_until: Option<Timestamp>,
    /// The database's time.
    now: Timestamp,
}

impl BreakerRow {
    fn read(row: &QueryResult) -> Result<Self, StoreError> {
        Ok(Self {
            id: SubscriberId::from_uuid(column(row, "subscriber_id")?),
            failures: unsigned(column(row, "failures")?),
            failing_since: Timestamp::from_millis(column(row, "first_failed_at")?),
            openings: unsigned(column(row, "openings")?),
            opened_at: timestamp(column(row, "opened_at")?),
            open_until: timestamp(column(row, "open_until")?),
            now: Timestamp::from_millis(column(row, "now")?),
        })
    }

    /// Returns whether the breaker opens now.
    ///
    /// A closed breaker opens at the threshold. One that has opened before opens again when a probe failed, which is an
    /// attempt that began after the last opening and ended after its pause. Its beginning is computed from its
    /// duration, because the worker's clock may differ from the database's.
    fn opens(&self, result: &SubscriberResult<'_>, policy: &BreakerPolicy) -> bool {
        match (self.opened_at, self.open_until) {
            _ if policy.breaker_failures == 0 => false,
            (Some(opened), Some(until)) => self.now >= until && self.now - result.shortest_failure > opened,
            _ => self.failures >= policy.breaker_failures,
        }
    }
}

async fn set_open(transaction: &Transaction, id: SubscriberId, pause: Duration) -> Result<(), StoreError> {
    let opened = NoticeKind::CircuitOpened.code();
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "UPDATE health SET openings = openings + 1, opened_at = {now}, open_until = {now} + $2, \
            notify_at = CASE WHEN noticed & {opened} = 0 THEN {now} ELSE notify_at END \
         WHERE subscriber_id = $1"
    );
    execute(transaction, sql, [id.uuid().into(), millis(pause).into()]).await?;
    Ok(())
}
