//! Deactivating a subscriber, and ending its deliveries soon.

use std::collections::BTreeSet;

use postrider_core::{DeactivationReason, SubscriberId, TenantId};
use postrider_database::sql::{execute, query_one};
use postrider_database::{Dialect, Transaction};
use postrider_queue::{Draining, TransactionalQueue};

use super::notice::Notice;
use super::state;
use crate::queue_ids::lane_of;
use crate::{StoreError, versions};

/// What came of judging.
pub(crate) enum Judged {
    /// What operators may want to know.
    Done(Vec<Notice>),
    /// These subscribers are to be deactivated and must be locked first. The transaction cannot be committed: it must
    /// begin again.
    Lock(Vec<SubscriberId>),
}

/// The subscribers that a transaction has locked, so that it may deactivate them after it has locked other rows.
pub(crate) struct Locked(Option<BTreeSet<SubscriberId>>);

impl Locked {
    /// Locks these subscribers, in the order of their ids. On SQLite the transaction has locked everything.
    pub(crate) async fn subscribers(
        transaction: &Transaction,
        ids: &BTreeSet<SubscriberId>,
    ) -> Result<Self, StoreError> {
        if Dialect::of(transaction) == Dialect::Sqlite {
            return Ok(Self(None));
        }
        let sql = ", given AS MATERIALIZED (SELECT * FROM input ORDER BY subscriber_id) \
            SELECT mine.id FROM given CROSS JOIN LATERAL ( \
                SELECT id FROM subscribers WHERE id = given.subscriber_id LIMIT 1 FOR NO KEY UPDATE \
            ) AS mine";
        state::ids(ids.iter().copied()).query(transaction, sql, []).await?;
        Ok(Self(Some(ids.clone())))
    }

    /// Returns whether this subscriber is locked.
    pub(super) fn has(&self, id: SubscriberId) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}

/// Deactivates a subscriber, which must be locked. Returns `None` if it was not active.
pub(super) async fn deactivate(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
    reason: DeactivationReason,
) -> Result<Option<Notice>, StoreError> {
    let active = "SELECT 1 AS one FROM subscribers WHERE id = $1 AND active";
    if query_one(transaction, active, [id.uuid().into()]).await?.is_none() {
        return Ok(None);
    }
    versions::keep(transaction, id, None).await?;
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "UPDATE subscribers SET active = false, deactivated_at = {now}, deactivation_reason = $2, updated_at = {now}, \
         matching_since_at = {now} WHERE id = $1"
    );
    execute(transaction, sql, [id.uuid().into(), reason.code().into()]).await?;
    drain_lane(queue, transaction, id, Draining::Yes).await?;
    Ok(Some(Notice::Deactivated { tenant: tenant.clone(), subscriber: id, reason }))
}

/// Drains the lane of a subscriber that will receive nothing more: [`Store::drain`](crate::Store::drain) ends what waits
/// in it. Forgets the subscriber's failures.
pub(crate) async fn drain_lane(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    id: SubscriberId,
    draining: Draining,
) -> Result<(), StoreError> {
    queue.drain_in(transaction, lane_of(id), draining).await?;
    state::reset(queue, transaction, id).await
}
