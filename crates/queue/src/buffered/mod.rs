//! A queue whose jobs wait in a service that only holds messages, such as SQS, until a worker has room for them.
//!
//! A transaction writes its jobs into `outbox`, and the courier of this process puts them into the buffer after the commit.
//! While workers have room, they take jobs from the buffer into the tables of the queue in the database, where everything
//! else happens: turns, limits, pauses, delays, retries and leases are those of [`PostgresQueue`](crate::PostgresQueue) or
//! [`SqliteQueue`](crate::SqliteQueue). A message is removed when its job is in the tables. What may come twice is known by
//! `taken_jobs`, which has a row for each job in the tables.
//!
//! | file | what it holds |
//! |---|---|
//! | `buffer` | what the service must be able to do |
//! | `filler` | putting jobs into the buffer, or into the tables |
//! | `taken` | the table `taken_jobs` |
//! | `takers` | taking jobs out of the buffer |

mod buffer;
mod filler;
mod taken;
mod takers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Database, Guarded, Purpose, Transaction, Writes};

pub use self::buffer::{Buffer, BufferedJob, Receipt, Taken};
use self::filler::Filler;
use self::takers::Takers;
use crate::error::QueueError;
use crate::job::{
    CheckIn, Claim, Claimed, Depth, Draining, Duties, Finish, Hold, JobId, LaneId, LaneSettings, Lease,
    NewJob, Promoted, Rescue, Rescued, WaitingJob, WorkerId,
};
use crate::join::{Join, Joined};
use crate::outbox::courier::Courier;
use crate::outbox::jobs;
use crate::queue::JobQueue;
use crate::remote::{Backlog, Fillable, Relayed};
use crate::transactional::TransactionalQueue;
use crate::view::{LanePage, LaneQuery};
use crate::wake::Wakeups;

/// The queue in the database, before which jobs wait in a [`Buffer`].
pub struct BufferedQueue {
    database: Database,
    tables: Arc<dyn TransactionalQueue>,
    filler: Arc<Filler>,
    courier: Courier,
    takers: Takers,
}

impl BufferedQueue {
    /// The queue in `database`, which must have the schema of `postrider-migrations`, behind `buffer`.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(database: Database, buffer: Arc<dyn Buffer>) -> Self {
        let tables = crate::open(&database);
        let delivery = database.serving(Purpose::Delivery);
        let filler = Arc::new(Filler::new(delivery.clone(), Arc::clone(&tables), buffer));
        let courier = Courier::start(delivery, Arc::clone(&filler) as Arc<dyn Fillable>);
        let takers = Takers::new(Arc::clone(&filler));
        Self { database, tables, filler, courier, takers }
    }
}

/// The jobs that leave the tables with these ends.
fn leaving(ended: &[JobId], finished: &[(Lease, Finish)]) -> Vec<JobId> {
    let leaves = |finish| matches!(finish, Finish::Done | Finish::Bury);
    let all = finished.iter().filter(|(lease, finish)| leaves(*finish) && ended.contains(&lease.job));
    all.map(|(lease, _)| lease.job).collect()
}

#[async_trait]
impl JobQueue for BufferedQueue {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        let claimed = self.tables.claim(claim).await?;
        self.takers.claimed(claim, &claimed);
        Ok(claimed)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        self.tables.extend(leases, lease).await
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        let ended = self.tables.finish(finished).await?;
        taken::forget(self.database.connection(), &leaving(&ended, finished)).await?;
        Ok(ended)
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        self.tables.promote(max).await
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        self.tables.rescue(rescue).await
    }

    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        self.tables.check_in(worker).await
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.takers.stop();
        self.tables.check_out(worker).await
    }

    fn serves(&self, lane: LaneId) -> bool {
        self.tables.serves(lane)
    }

    async fn tidy(&self) -> Result<(), QueueError> {
        self.tables.tidy().await
    }

    /// Jobs in the buffer count as ready.
    async fn depth(&self) -> Result<Depth, QueueError> {
        let mut depth = self.tables.depth().await?;
        match self.filler.waiting().await {
            Ok(waiting) => depth.ready = depth.ready.saturating_add(waiting),
            Err(error) => tracing::debug!(%error, "what waits in the buffer is not known"),
        }
        Ok(depth)
    }

    /// A job that was taken a moment ago had waited in the buffer for some time, as those behind it have.
    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        Ok(self.tables.longest_wait(calm).await?.max(self.takers.waited()))
    }

    fn wake(&self, lanes: &[LaneId]) {
        self.tables.wake(lanes);
    }

    fn wakeups(&self) -> Wakeups {
        self.tables.wakeups()
    }
}

#[async_trait]
impl TransactionalQueue for BufferedQueue {
    fn database(&self) -> &Database {
        &self.database
    }

    fn remote(&self) -> Option<&dyn Fillable> {
        Some(&*self.filler)
    }

    /// Lanes with jobs in the tables. What waits in the buffer cannot be listed by lane.
    async fn list_lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        self.tables.list_lanes(query).await
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

    /// What the tables have stays there.
    async fn adopt(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        self.filler.offer_again(jobs).await
    }

    async fn relay(&self) -> Result<Relayed, QueueError> {
        let connection = self.database.serving(Purpose::Delivery);
        Ok(Relayed { jobs: jobs::relay(&connection, &*self.filler).await?, lanes: 0 })
    }

    async fn backlog(&self) -> Result<Option<Backlog>, QueueError> {
        Ok(Some(jobs::backlog(self.database.serving(Purpose::Delivery).connection()).await?))
    }

    async fn claim_joined(
        &self,
        claim: &Claim,
        join: &Join,
    ) -> Result<(Claimed, Option<Joined>), QueueError> {
        let (claimed, joined) = self.tables.claim_joined(claim, join).await?;
        self.takers.claimed(claim, &claimed);
        Ok((claimed, joined))
    }

    fn done_with(&self, done: &[Lease], guarded: &mut Guarded) -> bool {
        let can = self.tables.done_with(done, guarded);
        if can {
            taken::forget_with(done.iter().map(|lease| lease.job), &mut guarded.writes);
        }
        can
    }

    async fn finish_in(
        &self,
        transaction: &Transaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError> {
        let ended = self.tables.finish_in(transaction, finished).await?;
        taken::forget(transaction, &leaving(&ended, finished)).await?;
        Ok(ended)
    }

    async fn configure_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        owner: &str,
        settings: LaneSettings,
    ) -> Result<(), QueueError> {
        self.tables.configure_in(transaction, lane, owner, settings).await
    }

    async fn pause_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError> {
        self.tables.pause_in(transaction, lane, duration).await
    }

    async fn resume_in(&self, transaction: &Transaction, lane: LaneId) -> Result<(), QueueError> {
        self.tables.resume_in(transaction, lane).await
    }

    async fn hold_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        owner: &str,
        hold: Hold,
    ) -> Result<(), QueueError> {
        self.tables.hold_in(transaction, lanes, owner, hold).await
    }

    async fn release_in(
        &self,
        transaction: &Transaction,
        lanes: &[LaneId],
        hold: Hold,
    ) -> Result<(), QueueError> {
        self.tables.release_in(transaction, lanes, hold).await
    }

    async fn drain_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        draining: Draining,
    ) -> Result<(), QueueError> {
        self.tables.drain_in(transaction, lane, draining).await
    }

    async fn waiting_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        max: u32,
    ) -> Result<Vec<WaitingJob>, QueueError> {
        self.tables.waiting_in(transaction, lane, max).await
    }

    /// Of jobs that a worker has claimed in the meantime the row is missing, too. Their messages were removed long ago.
    async fn remove_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        jobs: &[WaitingJob],
    ) -> Result<(), QueueError> {
        self.tables.remove_in(transaction, lane, jobs).await?;
        let jobs: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        Ok(taken::forget(transaction, &jobs).await?)
    }
}

impl std::fmt::Debug for BufferedQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferedQueue").finish_non_exhaustive()
    }
}
