//! What a recorded batch changes in the health of its subscribers.

use std::collections::{BTreeSet, HashSet};

use postrider_core::{DeactivationReason, DeadReason, SubscriberId};
use postrider_database::sql::column;
use postrider_database::{Dialect, Transaction};
use postrider_queue::TransactionalQueue;

use super::breaker::open_breakers;
use super::deactivate::{Judged, Locked, deactivate};
use super::fault::{Results, results};
use super::notice::Notice;
use super::policy::BreakerPolicy;
use super::state;
use crate::StoreError;
use crate::attempt::{End, Outcome};
use crate::queue_ids::lane_of;

/// Counts successes and failures, closes and opens breakers, and deactivates subscribers.
///
/// `failing` are the subscribers that may have a row in `health`. Only those are reset after a success, which saves a
/// statement for the others.
pub(crate) async fn judge(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    outcomes: &[&Outcome],
    failing: &HashSet<SubscriberId>,
    policy: &BreakerPolicy,
    locked: &Locked,
) -> Result<Judged, StoreError> {
    let results = results(outcomes);
    let mut notices = reset_healthy(queue, transaction, &results, failing).await?;
    match open_breakers(queue, transaction, &results, policy, locked).await? {
        Judged::Done(opened) => notices.extend(opened),
        lock @ Judged::Lock(_) => return Ok(lock),
    }
    notices.extend(outcomes.iter().filter_map(|outcome| Notice::of_dead(outcome)));
    let gone: BTreeSet<_> = outcomes
        .iter()
        .filter(|one| one.end == End::Dead(DeadReason::Gone))
        .map(|one| (one.delivery.subscriber, &one.delivery.tenant))
        .collect();
    for (id, tenant) in gone {
        notices.extend(deactivate(queue, transaction, tenant, id, DeactivationReason::Gone).await?);
    }
    Ok(Judged::Done(notices))
}

/// Forgets the failures of subscribers that had a success, and closes their breakers.
async fn reset_healthy(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    results: &Results<'_>,
    failing: &HashSet<SubscriberId>,
) -> Result<Vec<Notice>, StoreError> {
    let healthy =
        results.iter().filter(|(id, result)| result.succeeded && failing.contains(id)).map(|(id, _)| *id);
    let named = state::named(Dialect::of(transaction));
    let sql = format!("DELETE FROM health WHERE {named} RETURNING subscriber_id, open_until");
    let mut notices = Vec::new();
    for row in state::ids(healthy).query(transaction, &sql, []).await? {
        let id = SubscriberId::from_uuid(column(&row, "subscriber_id")?);
        if column::<Option<i64>>(&row, "open_until")?.is_some()
            && let Some(result) = results.get(&id)
        {
            queue.resume_in(transaction, lane_of(id)).await?;
            notices.push(Notice::CircuitClosed { tenant: result.tenant.clone(), subscriber: id });
        }
    }
    Ok(notices)
}
