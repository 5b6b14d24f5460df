//! Deactivating a subscriber, and ending its deliveries soon.

use postrider_core::{DeactivationReason, SubscriberId, TenantId};
use postrider_database::sql::execute;
use postrider_database::{Dialect, Transaction};
use postrider_queue::TransactionalQueue;

use super::notice::Notice;
use super::state;
use crate::StoreError;
use crate::queue_ids::lane_of;

/// The most jobs of an inactive subscriber that are made ready at once. Workers end the rest when it is due.
pub(crate) const EXPEDITED_AT_ONCE: u32 = 10_000;

/// Deactivates a subscriber. Returns `None` if it was not active.
pub(super) async fn deactivate(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
    reason: DeactivationReason,
) -> Result<Option<Notice>, StoreError> {
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "UPDATE subscribers SET active = false, deactivated_at = {now}, deactivation_reason = $2, updated_at = {now} \
         WHERE id = $1 AND active"
    );
    if execute(transaction, sql, [id.uuid().into(), reason.code().into()]).await? == 0 {
        return Ok(None);
    }
    expedite_lane(queue, transaction, id).await?;
    Ok(Some(Notice::Deactivated { tenant: tenant.clone(), subscriber: id, reason }))
}

/// Makes the waiting jobs of a subscriber ready now. It will receive nothing more, and workers end its deliveries when
/// they claim those jobs.
pub(crate) async fn expedite_lane(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    id: SubscriberId,
) -> Result<(), StoreError> {
    state::reset(queue, transaction, id).await?;
    queue.expedite_in(transaction, lane_of(id), EXPEDITED_AT_ONCE).await?;
    Ok(())
}
