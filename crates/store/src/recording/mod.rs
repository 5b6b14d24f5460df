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
//! | `tail` | what happened, for those who follow it |
//! | `fast` | all of that in one statement, for plain successes: [`Store::record_fast`] |

mod attempts;
mod counts;
pub(crate) mod deliveries;
mod fast;
mod tail;

use std::collections::{BTreeSet, HashMap, HashSet};

use postrider_core::{DeadReason, SubscriberId};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Kind, Transaction, Writes};
use postrider_queue::{Draining, Finish, Finished, JobId, LaneId, Lease};

use self::deliveries::{Applied, Fence, count_late, update_deliveries};
use crate::attempt::{End, Outcome};
use crate::health::{self, BreakerPolicy, Judged, Locked, Notice};
use crate::partitions::Tables;
use crate::rollups;
use crate::subscribers::counts::{self as subscriber_counts, CountChange};
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
        let outcomes: Vec<&Outcome> = outcomes.into_iter().collect();
        let tables = self.tables_of(outcomes.iter().map(|one| one.delivery.id));
        match self.record_in(&tables, outcomes.clone(), others.to_vec(), policy).await {
            // The partition was dropped: no delivery was pending in it.
            Err(StoreError::Database(error)) if error.is_missing_table() => {
                self.partitions.forget();
                self.record_in(&Tables::WHOLE, outcomes, others.to_vec(), policy).await
            }
            recorded => recorded,
        }
    }

    async fn record_in(
        &self,
        tables: &Tables,
        mut outcomes: Vec<&Outcome>,
        mut others: Vec<(Lease, Finish)>,
        policy: &BreakerPolicy,
    ) -> Result<Recorded, StoreError> {
        let mut lost: HashSet<JobId> = HashSet::new();
        let mut released = Vec::new();
        let mut notices = Vec::new();
        outcomes.sort_unstable_by_key(|one| one.delivery.id);
        // Known beforehand: answers that the receiver is gone. That a subscriber has failed for too long is found while
        // recording, and then recording begins again.
        let gone = outcomes.iter().filter(|one| one.end == End::Dead(DeadReason::Gone));
        let mut to_deactivate: BTreeSet<SubscriberId> = gone.map(|one| one.delivery.subscriber).collect();
        while !(outcomes.is_empty() && others.is_empty()) {
            let own = outcomes.iter().map(|one| (one.lease, one.end.finish()));
            let ends: Vec<_> = own.chain(others.iter().copied()).collect();
            let transaction = self.database.begin().await?;
            // First, as every transaction locks subscribers before all else.
            let locked = Locked::subscribers(&transaction, &to_deactivate).await?;
            let Written { failing, superseded } = self.write(&transaction, tables, &outcomes).await?;
            // Late, because it locks lanes, which other workers wait for.
            let mut ended: HashSet<JobId> =
                self.queue.finish_in(&transaction, &ends).await?.into_iter().collect();
            ended.retain(|job| !superseded.contains(job));
            if ended.len() == ends.len() {
                // After the jobs are locked: everything else that locks lanes locks jobs first, too.
                let judged =
                    health::judge(&*self.queue, &transaction, &outcomes, &failing, policy, &locked).await?;
                match judged {
                    Judged::Done(all) => notices = all,
                    Judged::Lock(subscribers) => {
                        transaction.rollback().await?;
                        to_deactivate.extend(subscribers);
                        continue;
                    }
                }
                self.drain_inactive(&transaction, &outcomes).await?;
                count_deactivated(&transaction, &notices).await?;
                transaction.commit().await?;
                self.queue.lanes_changed();
                self.queue.finished(&finished(&outcomes, &others)).await;
                break;
            }
            transaction.rollback().await?;
            // Another worker has recorded something about them. With their own outcomes they could end the only jobs of
            // pending deliveries, so they are looked at again.
            let other_worker = ends.iter().filter(|(lease, _)| superseded.contains(&lease.job));
            released.extend(other_worker.map(|(lease, _)| released_again(*lease)));
            let before = lost.len();
            lost.extend(ends.iter().map(|(lease, _)| lease.job).filter(|job| !ended.contains(job)));
            if lost.len() == before {
                // The caller gave the same job twice. Trying again would never end.
                break;
            }
            outcomes.retain(|one| !lost.contains(&one.lease.job));
            others.retain(|(lease, _)| !lost.contains(&lease.job));
        }
        if !released.is_empty() {
            self.queue.finished(&released).await;
        }
        Ok(Recorded { lost: lost.into_iter().collect(), notices })
    }

    /// Writes deliveries, attempts and counts.
    async fn write(
        &self,
        transaction: &Transaction,
        tables: &Tables,
        outcomes: &[&Outcome],
    ) -> Result<Written, StoreError> {
        let fence = if self.queue.fences() { Fence::Lease } else { Fence::Attempts };
        let mut applied: HashMap<JobId, Applied> =
            update_deliveries(transaction, tables, outcomes, fence).await?;
        let mut superseded = HashSet::new();
        for outcome in outcomes.iter().filter(|outcome| outcome.attempt.is_some() || fence == Fence::Attempts)
        {
            let job = outcome.lease.job;
            if applied.contains_key(&job) {
                continue;
            }
            let late = match outcome.attempt {
                Some(_) => count_late(transaction, tables, outcome, fence).await?,
                None => None,
            };
            match late {
                Some(late) => drop(applied.insert(job, late)),
                None if fence == Fence::Attempts => drop(superseded.insert(job)),
                None => {}
            }
        }
        let mut writes = Writes::new();
        attempts::insert(&self.ids, outcomes, &applied, &mut writes);
        self.note_outcomes(outcomes, &applied, &mut writes);
        rollups::deltas::add(counts::of(outcomes, &applied), &mut writes);
        writes.execute(transaction).await?;
        let failing = outcomes.iter().filter(|one| applied.get(&one.lease.job).is_none_or(|one| one.failing));
        Ok(Written { failing: failing.map(|one| one.delivery.subscriber).collect(), superseded })
    }

    /// Drains the lanes of inactive subscribers among those whose deliveries are retried, or ended without a request.
    ///
    /// Deactivation drained the lane of what waited then. A job that was running, and is retried now, was not among that,
    /// nor was one that came later. Without a waiting job, draining ends at once.
    async fn drain_inactive(
        &self,
        transaction: &Transaction,
        outcomes: &[&Outcome],
    ) -> Result<(), StoreError> {
        const ID: &[Column] = &[Column::new("id", Kind::Uuid)];
        let waiting =
            outcomes.iter().filter(|one| one.attempt.is_none() || matches!(one.end, End::RetryIn(_)));
        let mut input = Batch::new(ID);
        for id in waiting.map(|one| one.delivery.subscriber).collect::<BTreeSet<_>>() {
            input.push([id.uuid().into()]);
        }
        let sql = "SELECT input.id FROM input \
            WHERE (SELECT 1 FROM subscribers WHERE subscribers.id = input.id AND active LIMIT 1) IS NULL \
            ORDER BY input.id";
        for row in &input.query(transaction, sql, []).await? {
            self.queue.drain_in(transaction, LaneId(column(row, "id")?), Draining::Yes).await?;
        }
        Ok(())
    }
}

/// What writing outcomes has found.
struct Written {
    /// The subscribers that may have failures which a success resets.
    failing: HashSet<SubscriberId>,
    /// The jobs about whose deliveries another worker has recorded something first.
    superseded: HashSet<JobId>,
}

/// What a queue outside the database has to know once outcomes are recorded.
pub(super) fn finished(outcomes: &[&Outcome], others: &[(Lease, Finish)]) -> Vec<Finished> {
    let own = outcomes.iter().map(|one| Finished {
        lease: one.lease,
        finish: one.end.finish(),
        about: Some((one.delivery.tenant.to_string(), one.delivery.id.uuid())),
    });
    let others = others.iter().map(|&(lease, finish)| Finished { lease, finish, about: None });
    own.chain(others).collect()
}

fn released_again(lease: Lease) -> Finished {
    Finished { lease, finish: Finish::Release, about: None }
}

/// Counts the subscribers that were deactivated.
async fn count_deactivated(transaction: &Transaction, notices: &[Notice]) -> Result<(), StoreError> {
    let deactivated = notices.iter().filter_map(|notice| match notice {
        Notice::Deactivated { tenant, subscriber, .. } => {
            Some((tenant, *subscriber, CountChange::activity(true, false)))
        }
        _ => None,
    });
    subscriber_counts::add(transaction, deactivated).await
}
