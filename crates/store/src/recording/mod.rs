//! Recording the outcomes of claimed jobs, and ending the jobs, in one transaction.
//!
//! The jobs' leases fence the record. If a worker has lost the lease of a job, nothing about that job is written, and
//! the others are written without it.
//!
//! | file | what it writes |
//! |---|---|
//! | `deliveries` | the new state of the deliveries |
//! | `attempts` | the log of attempts |
//! | `counts` | the roll-ups |
//! | `fast` | all of that in one statement, for plain successes: [`Store::record_fast`] |

mod attempts;
mod counts;
mod deliveries;
mod fast;

use std::collections::{BTreeSet, HashMap, HashSet};

use postrider_core::SubscriberId;
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Kind, Transaction, Writes};
use postrider_queue::{Finish, JobId, LaneId, Lease};

use self::deliveries::{Applied, count_late, update_deliveries};
use crate::attempt::{End, Outcome};
use crate::health::{self, BreakerPolicy, Notice, deactivate::EXPEDITED_AT_ONCE};
use crate::{Store, StoreError};

/// The result of [`Store::record`].
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The jobs whose lease was lost. Nothing was written about them.
    pub lost: Vec<JobId>,
    /// What operators may want to know.
    pub notices: Vec<Notice>,
}

impl Store {
    /// Records outcomes and ends their jobs. Also ends the jobs of `others`, about which there is nothing to record.
    ///
    /// # Errors
    /// Fails if the database is unavailable or rejects a statement. If the reply to a commit was lost, the outcomes may
    /// have been recorded all the same; repeating the call is safe, because the leases fence it.
    pub async fn record<'a>(
        &self,
        outcomes: impl IntoIterator<Item = &'a Outcome>,
        others: &[(Lease, Finish)],
        policy: &BreakerPolicy,
    ) -> Result<Recorded, StoreError> {
        let mut outcomes: Vec<&Outcome> = outcomes.into_iter().collect();
        let mut others = others.to_vec();
        let mut lost: HashSet<JobId> = HashSet::new();
        let mut notices = Vec::new();
        while !(outcomes.is_empty() && others.is_empty()) {
            let own = outcomes.iter().map(|one| (one.lease, one.end.finish()));
            let ends: Vec<_> = own.chain(others.iter().copied()).collect();
            let transaction = self.database.begin().await?;
            let failing = self.write(&transaction, &outcomes).await?;
            // Late, because it locks lanes, which other workers wait for.
            let ended: HashSet<JobId> =
                self.queue.finish_in(&transaction, &ends).await?.into_iter().collect();
            if ended.len() == ends.len() {
                // After the jobs are locked: everything else that locks lanes locks jobs first, too.
                notices = health::judge(&*self.queue, &transaction, &outcomes, &failing, policy).await?;
                let expedited = self.expedite_inactive(&transaction, &outcomes).await?;
                transaction.commit().await?;
                if expedited {
                    self.queue.wake();
                }
                break;
            }
            transaction.rollback().await?;
            let before = lost.len();
            lost.extend(ends.iter().map(|(lease, _)| lease.job).filter(|job| !ended.contains(job)));
            if lost.len() == before {
                // The caller gave the same job twice. Trying again would never end.
                break;
            }
            outcomes.retain(|one| !lost.contains(&one.lease.job));
            others.retain(|(lease, _)| !lost.contains(&lease.job));
        }
        Ok(Recorded { lost: lost.into_iter().collect(), notices })
    }

    /// Writes deliveries, attempts and counts. Returns the subscribers that may have failures that a success resets.
    async fn write(
        &self,
        transaction: &Transaction,
        outcomes: &[&Outcome],
    ) -> Result<HashSet<SubscriberId>, StoreError> {
        let mut applied: HashMap<JobId, Applied> = update_deliveries(transaction, outcomes).await?;
        for outcome in outcomes {
            if outcome.attempt.is_some()
                && !applied.contains_key(&outcome.lease.job)
                && let Some(late) = count_late(transaction, outcome).await?
            {
                applied.insert(outcome.lease.job, late);
            }
        }
        let mut writes = Writes::new();
        attempts::insert(&self.ids, outcomes, &applied, &mut writes);
        counts::add(self.shards.next(), outcomes, &applied, &mut writes);
        writes.execute(transaction).await?;
        let failing = outcomes.iter().filter(|one| applied.get(&one.lease.job).is_none_or(|one| one.failing));
        Ok(failing.map(|one| one.delivery.subscriber).collect())
    }

    /// Makes the waiting jobs of inactive subscribers ready now. Returns whether there are such subscribers.
    ///
    /// Deactivation expedites the jobs that wait in the lane at that time. A job that was running then, and is retried
    /// now, was not among them.
    async fn expedite_inactive(
        &self,
        transaction: &Transaction,
        outcomes: &[&Outcome],
    ) -> Result<bool, StoreError> {
        const ID: &[Column] = &[Column::new("id", Kind::Uuid)];
        let retried = outcomes.iter().filter(|one| matches!(one.end, End::RetryIn(_)));
        let mut input = Batch::new(ID);
        for id in retried.map(|one| one.delivery.subscriber).collect::<BTreeSet<_>>() {
            input.push([id.uuid().into()]);
        }
        let sql = "SELECT input.id FROM input \
            WHERE (SELECT 1 FROM subscribers WHERE subscribers.id = input.id AND active LIMIT 1) IS NULL \
            ORDER BY input.id";
        let inactive = input.query(transaction, sql, []).await?;
        for row in &inactive {
            self.queue.expedite_in(transaction, LaneId(column(row, "id")?), EXPEDITED_AT_ONCE).await?;
        }
        Ok(!inactive.is_empty())
    }
}
