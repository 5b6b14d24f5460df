//! Queues that take part in the store's transactions.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Database, Guarded, Purpose, Transaction, Writes};

use crate::error::QueueError;
use crate::job::{
    Claim, Claimed, Draining, Finish, Hold, JobId, LaneId, LaneSettings, Lease, NewJob, WaitingJob,
};
use crate::join::{Join, Joined};
use crate::queue::{JobSink, LaneControl, Queue, QueueReads};
use crate::remote::{Backlog, Fillable, Finished, LaneState, Relayed};
use crate::view::{LanePage, LaneQuery, WorkerStatus};
use crate::{adopt, check_in, drain, hold, lanes};

/// A queue that lives in the application's database and takes part in its transactions.
///
/// Its [`LaneControl`] and [`JobSink`] are derived from the methods here, each in a transaction of its own, and its
/// [`QueueReads`] from its tables.
#[async_trait]
pub trait TransactionalQueue: Queue {
    /// The database that holds the queue's tables.
    fn database(&self) -> &Database;

    /// What this queue fills outside the database, if it does. Then the store is the one that knows all jobs, and fills it
    /// again after a loss.
    fn remote(&self) -> Option<&dyn Fillable> {
        None
    }

    /// Whether leases are in the database, so that they fence what the store writes.
    fn fences(&self) -> bool {
        true
    }

    /// [`QueueReads::lanes`].
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn list_lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        Ok(lanes::list(&self.database().reads(), query).await?)
    }

    /// Adds to `writes` the statements that enqueue jobs. Call [`TransactionalQueue::enqueued`] with the same jobs after the
    /// commit.
    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes);

    /// The transaction that enqueued these jobs has committed. Wakes workers. Never waits.
    fn enqueued(&self, jobs: &[NewJob]) {
        let lanes: BTreeSet<LaneId> = jobs.iter().map(|job| job.lane).collect();
        self.wake(&lanes.into_iter().collect::<Vec<_>>());
    }

    /// The same for jobs of many lanes, whose names would leave no room for others in the notifications.
    fn enqueued_many(&self, _jobs: &[NewJob]) {
        self.wake(&[]);
    }

    /// A transaction that changed lanes has committed. Never waits.
    fn lanes_changed(&self) {}

    /// A transaction that ended claims with [`TransactionalQueue::finish_in`] or [`TransactionalQueue::done_with`] has
    /// committed.
    async fn finished(&self, _finished: &[Finished]) {}

    /// A transaction that removed jobs with [`TransactionalQueue::remove_in`] or [`TransactionalQueue::cancel_in`] has
    /// committed.
    async fn removed(&self, _lane: LaneId, _jobs: &[JobId]) {}

    /// Takes over jobs that another queue has had until now: enqueues those that this queue does not have. Returns how many.
    /// Workers of this queue may run at the same time, those of the other one must not.
    ///
    /// # Errors
    /// Fails if the database or the queue is unavailable. Some jobs may have been taken over all the same.
    async fn adopt(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        let transaction = self.database().begin().await?;
        let missing = adopt::missing(&transaction, jobs).await?;
        let jobs: Vec<NewJob> = jobs.iter().filter(|job| missing.contains(&job.id)).cloned().collect();
        let mut writes = Writes::new();
        self.enqueue_with(&jobs, &mut writes);
        writes.execute(&transaction).await?;
        commit(transaction).await?;
        self.enqueued(&jobs);
        Ok(jobs.len() as u64)
    }

    /// Tells a queue outside the database what committed transactions have written more than half a second ago and it may not
    /// know. Workers call it about twice a second.
    ///
    /// # Errors
    /// Fails if the database or the queue is unavailable.
    async fn relay(&self) -> Result<Relayed, QueueError> {
        Ok(Relayed::default())
    }

    /// What a queue outside the database has not been told yet. `None` if the queue is in the database.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn backlog(&self) -> Result<Option<Backlog>, QueueError> {
        Ok(None)
    }

    /// The state of up to `max` lanes after this one, in the order of their ids.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn lane_states(&self, after: Option<LaneId>, max: u32) -> Result<Vec<LaneState>, QueueError> {
        Ok(crate::outbox::page(self.database().serving(Purpose::Delivery).connection(), after, max).await?)
    }

    /// Claims as [`JobQueue::claim`](crate::JobQueue::claim) does, and reads what `join` names about the jobs in the same
    /// statement. `None`: the queue cannot, and has only claimed.
    ///
    /// # Errors
    /// As [`JobQueue::claim`](crate::JobQueue::claim).
    async fn claim_joined(
        &self,
        claim: &Claim,
        _join: &Join,
    ) -> Result<(Claimed, Option<Joined>), QueueError> {
        Ok((self.claim(claim).await?, None))
    }

    /// Adds to `writes` a statement that wakes workers in other processes when the transaction commits, which saves them a
    /// round trip. Returns whether it did: after the commit, call [`TransactionalQueue::wake_here`] if so, and otherwise
    /// [`JobQueue::wake`](crate::JobQueue::wake). It does so only now and then, since such commits wait for each other.
    fn wake_with(&self, _lanes: &[LaneId], _writes: &mut Writes) -> bool {
        false
    }

    /// Wakes workers in this process only. See [`TransactionalQueue::wake_with`].
    fn wake_here(&self, lanes: &[LaneId]) {
        self.wake(lanes);
    }

    /// Adds to `guarded` the statements that remove jobs which are done, and the expectation that all their leases are
    /// valid. Returns whether the queue can do that: if not, it adds nothing, and the caller uses
    /// [`TransactionalQueue::finish_in`].
    fn done_with(&self, done: &[Lease], guarded: &mut Guarded) -> bool;

    /// Ends claims when `transaction` commits. Returns the jobs whose leases are still valid. If one of those given is
    /// missing, the worker must not commit what it did under that lease.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn finish_in(
        &self,
        transaction: &Transaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError>;

    /// [`LaneControl::configure`], effective when `transaction` commits.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn configure_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        owner: &str,
        settings: LaneSettings,
    ) -> Result<(), QueueError>;

    /// [`LaneControl::pause`], effective when `transaction` commits.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn pause_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError>;

    /// [`LaneControl::resume`], effective when `transaction` commits. Call [`JobQueue::wake`](crate::JobQueue::wake)
    /// after that.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn resume_in(&self, transaction: &Transaction, lane: LaneId) -> Result<(), QueueError>;

    /// [`LaneControl::hold`], effective when `transaction` commits. Locks the lanes.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn hold_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        owner: &str,
        hold: Hold,
    ) -> Result<(), QueueError> {
        Ok(hold::hold(transaction, lanes, owner, hold).await?)
    }

    /// [`LaneControl::release`], effective when `transaction` commits. Locks the lanes. Call
    /// [`JobQueue::wake`](crate::JobQueue::wake) after that.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn release_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        hold: Hold,
    ) -> Result<(), QueueError> {
        Ok(hold::release(transaction, lanes, hold).await?)
    }

    /// Starts or stops draining a lane when `transaction` commits. Claims take nothing from a draining lane, whatever its
    /// limits. Somebody ends what waits in it: finds it with [`TransactionalQueue::next_draining`], reads its jobs with
    /// [`TransactionalQueue::waiting_in`], ends what they are about, and removes them in the same transaction.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn drain_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        draining: Draining,
    ) -> Result<(), QueueError> {
        Ok(drain::set(transaction, lane, draining).await?)
    }

    /// The next draining lane after this one, in the order of their ids.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn next_draining(&self, after: Option<LaneId>) -> Result<Option<LaneId>, QueueError> {
        Ok(drain::next(self.database().serving(Purpose::Delivery).connection(), after).await?)
    }

    /// Up to `max` jobs of a lane that no worker has claimed, whether they are due or not.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn waiting_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        max: u32,
    ) -> Result<Vec<WaitingJob>, QueueError> {
        Ok(drain::waiting(transaction, lane, max).await?)
    }

    /// Removes those of these jobs of a lane that no worker has claimed. Locks the lane.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn remove_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        jobs: &[WaitingJob],
    ) -> Result<(), QueueError> {
        drain::lock(transaction, lane).await?;
        Ok(drain::remove(transaction, lane, jobs).await?)
    }

    /// Removes those of these jobs of a lane that no worker has claimed and that are among its first. Nobody needs them any
    /// more: one that stays does no harm if its subject names another job, or none. Locks the lane.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn cancel_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        jobs: &[JobId],
    ) -> Result<(), QueueError> {
        let jobs: HashSet<JobId> = jobs.iter().copied().collect();
        let waiting = self.waiting_in(transaction, lane, drain::LOOKED_THROUGH).await?;
        let found: Vec<_> = waiting.into_iter().filter(|waiting| jobs.contains(&waiting.id)).collect();
        if found.is_empty() { Ok(()) } else { self.remove_in(transaction, lane, &found).await }
    }

    /// Stops draining a lane if nothing waits in it. Returns whether it did.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn drained_in(&self, transaction: &Transaction, lane: LaneId) -> Result<bool, QueueError> {
        // Locked before the look, so that a job which comes back at this moment is seen, or marks the lane again.
        drain::lock(transaction, lane).await?;
        let drained = self.waiting_in(transaction, lane, 1).await?.is_empty();
        if drained {
            drain::stop(transaction, lane).await?;
        }
        Ok(drained)
    }

    /// Adds to `writes` a statement that keeps lanes from being removed until the transaction has ended. Needed before
    /// [`TransactionalQueue::enqueue_with`] if the lanes' owner may have been deleted.
    fn keep_lanes_with(&self, owner: &str, lanes: &BTreeSet<LaneId>, writes: &mut Writes) {
        drain::keep(owner, lanes, writes);
    }

    /// Removes up to `max` empty lanes whose owner was deleted more than an hour ago. Returns how many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn remove_lanes(&self, max: u32) -> Result<u64, QueueError> {
        let database = self.database().serving(Purpose::Delivery);
        let mut removed = 0;
        for lane in drain::gone(database.connection(), max).await? {
            let transaction = database.begin().await?;
            drain::lock(&transaction, lane).await?;
            if self.waiting_in(&transaction, lane, 1).await?.is_empty() {
                removed += drain::remove_lane(&transaction, lane).await?;
            } else {
                self.drain_in(&transaction, lane, Draining::Yes).await?;
            }
            commit(transaction).await?;
        }
        Ok(removed)
    }
}

#[async_trait]
impl<Q: TransactionalQueue> LaneControl for Q {
    async fn configure(&self, lane: LaneId, owner: &str, settings: LaneSettings) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.configure_in(&transaction, lane, owner, settings).await?;
        commit(transaction).await?;
        self.lanes_changed();
        self.wake(&[lane]);
        Ok(())
    }

    async fn pause(&self, lane: LaneId, duration: Duration) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.pause_in(&transaction, lane, duration).await?;
        commit(transaction).await?;
        self.lanes_changed();
        Ok(())
    }

    async fn resume(&self, lane: LaneId) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.resume_in(&transaction, lane).await?;
        commit(transaction).await?;
        self.lanes_changed();
        self.wake(&[lane]);
        Ok(())
    }

    async fn hold(&self, lanes: &[LaneId], owner: &str, hold: Hold) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.hold_in(&transaction, lanes, owner, hold).await?;
        commit(transaction).await?;
        self.lanes_changed();
        Ok(())
    }

    async fn release(&self, lanes: &[LaneId], hold: Hold) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.release_in(&transaction, lanes, hold).await?;
        commit(transaction).await?;
        self.lanes_changed();
        self.wake(lanes);
        Ok(())
    }
}

#[async_trait]
impl<Q: TransactionalQueue> JobSink for Q {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError> {
        let mut writes = Writes::new();
        self.enqueue_with(jobs, &mut writes);
        let transaction = self.database().begin().await?;
        writes.execute(&transaction).await?;
        commit(transaction).await?;
        self.enqueued(jobs);
        Ok(())
    }
}

#[async_trait]
impl<Q: TransactionalQueue> QueueReads for Q {
    async fn workers(&self) -> Result<Vec<WorkerStatus>, QueueError> {
        Ok(check_in::workers(&self.database().reads()).await?)
    }

    async fn lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        self.list_lanes(query).await
    }
}

pub(crate) async fn commit(transaction: Transaction) -> Result<(), QueueError> {
    Ok(transaction.commit().await?)
}
