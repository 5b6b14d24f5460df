//! A queue outside the database that takes part in the store's transactions all the same, through an outbox.
//!
//! A transaction writes what the queue has to be told: jobs as rows of `outbox`, and lanes by their names in
//! `changed_lanes`, while the state of each lane is in `lanes`. After the commit the courier of this process tells the queue
//! and deletes the rows. What a crash, or a queue that is away, has left behind, [`TransactionalQueue::relay`] tells it.
//!
//! | file | what it holds |
//! |---|---|
//! | `courier` | telling the queue after the commit |
//! | `jobs` | the table `outbox` |
//! | `lanes` | the table `changed_lanes` |

pub(crate) mod courier;
pub(crate) mod jobs;
mod lanes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Database, Guarded, Purpose, Transaction, Writes};

use self::courier::Courier;
pub(crate) use self::lanes::page;
use crate::adopt;
use crate::drain;
use crate::error::QueueError;
use crate::hold;
use crate::job::{
    CheckIn, Claim, Claimed, Depth, Draining, Duties, Finish, Hold, JobId, LaneId, LaneSettings, Lease,
    NewJob, Promoted, Rescue, Rescued, WaitingJob, WorkerId,
};
use crate::queue::JobQueue;
use crate::remote::{Backlog, Fillable, Finished, Relayed, RemoteQueue};
use crate::transactional::{TransactionalQueue, commit};
use crate::view::{LanePage, LaneQuery};
use crate::wake::Wakeups;

/// A [`RemoteQueue`] that the store fills through its outbox.
///
/// Claims, leases and measures are those of the remote queue. The settings of lanes are kept in the database as well, so that
/// the queue can be filled again when it has lost them. Leases do not fence what the store writes; the
/// delivery's number of attempts does.
pub struct OutboxQueue {
    database: Database,
    /// Keeps the state of lanes, and the workers that run.
    tables: Arc<dyn TransactionalQueue>,
    remote: Arc<dyn RemoteQueue>,
    courier: Courier,
}

impl OutboxQueue {
    /// The queue `remote`, filled through `database`, which must have the schema of `postrider-migrations`.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(database: Database, remote: Arc<dyn RemoteQueue>) -> Self {
        let tables = crate::open(&database);
        let courier =
            Courier::start(database.serving(Purpose::Delivery), Arc::clone(&remote) as Arc<dyn Fillable>)
                .finishing_late(Arc::clone(&remote));
        Self { database, tables, remote, courier }
    }

    async fn mark(&self, transaction: &Transaction, lanes: &[LaneId]) -> Result<(), QueueError> {
        lanes::mark(transaction, lanes).await?;
        self.courier.lanes_marked();
        Ok(())
    }
}

#[async_trait]
impl JobQueue for OutboxQueue {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        self.remote.claim(claim).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        self.remote.extend(leases, lease).await
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        self.remote.finish(finished).await
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        self.remote.promote(max).await
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        self.remote.rescue(rescue).await
    }

    /// Every worker serves all lanes, as the remote queue keeps their turns.
    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        let Duties { leads, .. } = self.tables.check_in(worker).await?;
        Ok(Duties { leads, ..Duties::default() })
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.tables.check_out(worker).await
    }

    async fn tidy(&self) -> Result<(), QueueError> {
        self.remote.tidy().await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.remote.depth().await
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        self.remote.longest_wait(calm).await
    }

    fn wake(&self, lanes: &[LaneId]) {
        self.remote.wake(lanes);
    }

    fn wakeups(&self) -> Wakeups {
        self.remote.wakeups()
    }
}

#[async_trait]
impl TransactionalQueue for OutboxQueue {
    fn database(&self) -> &Database {
        &self.database
    }

    fn remote(&self) -> Option<&dyn Fillable> {
        Some(&*self.remote)
    }

    /// The delivery's number of attempts fences instead.
    fn fences(&self) -> bool {
        false
    }

    async fn list_lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        self.remote.lanes(query).await
    }

    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes) {
        jobs::insert(self.database.dialect(), jobs, writes);
    }

    fn enqueued(&self, jobs: &[NewJob]) {
        self.courier.offer(jobs);
    }

    fn enqueued_many(&self, jobs: &[NewJob]) {
        self.courier.offer(jobs);
    }

    fn lanes_changed(&self) {
        self.courier.tell_lanes();
    }

    async fn finished(&self, finished: &[Finished]) {
        self.courier.finish(&*self.remote, finished).await;
    }

    async fn removed(&self, lane: LaneId, jobs: &[JobId]) {
        if let Err(error) = self.remote.remove(lane, jobs).await {
            tracing::debug!(%error, "jobs that have ended stay in the queue until they are claimed");
        }
    }

    /// The queue in the database may have had them.
    async fn adopt(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        let new = self.remote.offer(jobs).await?;
        let database = self.database.serving(Purpose::Delivery);
        adopt::out_of_tables(database.connection(), jobs).await?;
        Ok(new)
    }

    async fn relay(&self) -> Result<Relayed, QueueError> {
        let connection = self.database.serving(Purpose::Delivery);
        let lanes = lanes::tell(&connection, &*self.remote).await?;
        let jobs = jobs::relay(&connection, &*self.remote).await?;
        Ok(Relayed { jobs, lanes })
    }

    async fn backlog(&self) -> Result<Option<Backlog>, QueueError> {
        Ok(Some(jobs::backlog(self.database.serving(Purpose::Delivery).connection()).await?))
    }

    /// The store fences what it writes by the delivery's job and its number of attempts.
    fn done_with(&self, _done: &[Lease], _guarded: &mut Guarded) -> bool {
        true
    }

    /// Every lease counts as valid, for the same reason.
    async fn finish_in(
        &self,
        _transaction: &Transaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError> {
        Ok(finished.iter().map(|(lease, _)| lease.job).collect())
    }

    async fn configure_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        owner: &str,
        settings: LaneSettings,
    ) -> Result<(), QueueError> {
        self.tables.configure_in(transaction, lane, owner, settings).await?;
        self.mark(transaction, &[lane]).await
    }

    async fn pause_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError> {
        self.tables.pause_in(transaction, lane, duration).await?;
        self.mark(transaction, &[lane]).await
    }

    async fn resume_in(&self, transaction: &Transaction, lane: LaneId) -> Result<(), QueueError> {
        self.tables.resume_in(transaction, lane).await?;
        self.mark(transaction, &[lane]).await
    }

    async fn hold_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        owner: &str,
        hold: Hold,
    ) -> Result<(), QueueError> {
        hold::hold(transaction, lanes, owner, hold).await?;
        self.mark(transaction, lanes).await
    }

    async fn release_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        hold: Hold,
    ) -> Result<(), QueueError> {
        hold::release(transaction, lanes, hold).await?;
        self.mark(transaction, lanes).await
    }

    async fn drain_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        draining: Draining,
    ) -> Result<(), QueueError> {
        drain::set(transaction, lane, draining).await?;
        self.mark(transaction, &[lane]).await
    }

    async fn waiting_in(
        &self,
        _transaction: &Transaction,
        lane: LaneId,
        max: u32,
    ) -> Result<Vec<WaitingJob>, QueueError> {
        self.remote.waiting(lane, max).await
    }

    /// The jobs are removed after the commit, by [`TransactionalQueue::removed`].
    async fn remove_in(&self, _: &Transaction, _: LaneId, _: &[WaitingJob]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn cancel_in(&self, _: &Transaction, _: LaneId, _: &[JobId]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn drained_in(&self, transaction: &Transaction, lane: LaneId) -> Result<bool, QueueError> {
        drain::lock(transaction, lane).await?;
        let drained = self.remote.waiting(lane, 1).await?.is_empty();
        if drained {
            drain::stop(transaction, lane).await?;
            self.mark(transaction, &[lane]).await?;
        }
        Ok(drained)
    }

    async fn remove_lanes(&self, max: u32) -> Result<u64, QueueError> {
        let database = self.database.serving(Purpose::Delivery);
        let mut removed = 0;
        for lane in drain::gone(database.connection(), max).await? {
            let transaction = database.begin().await?;
            drain::lock(&transaction, lane).await?;
            if self.remote.waiting(lane, 1).await?.is_empty() {
                self.mark(&transaction, &[lane]).await?;
                removed += drain::remove_lane(&transaction, lane).await?;
            } else {
                self.drain_in(&transaction, lane, Draining::Yes).await?;
            }
            commit(transaction).await?;
        }
        self.courier.tell_lanes();
        Ok(removed)
    }
}

impl std::fmt::Debug for OutboxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxQueue").finish_non_exhaustive()
    }
}
