//! The trait that every queue implements.

use async_trait::async_trait;
use postrider_database::{DatabaseError, Guarded, Writes};
use sea_orm::DatabaseTransaction;

use crate::job::{
    Claim, Claimed, Depth, Finish, JobId, LaneId, LaneSettings, Lease, NewJob, Promoted, Rescue, Rescued,
};
use crate::wake::Wakeups;

/// What went wrong in a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database's.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another backend's: the same call may succeed later.
    #[error("the queue is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl QueueError {
    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_unavailable(),
            Self::Unavailable(_) => true,
        }
    }
}

/// A queue of jobs in lanes. Every call serves many jobs at once.
///
/// Rules that every implementation keeps, and the suite `conformance` checks:
/// - a job is claimed by one worker at a time, for the time of its lease;
/// - a call that names a lease changes nothing once that lease has expired and the job was rescued;
/// - within a lane, jobs are claimed in the order in which they were enqueued, those that are tried
///   again after those that are tried for the first time (unless the lane is ordered);
/// - a lane never has more jobs running than it allows, whatever the number of workers;
/// - a job is never claimed before it is due.
#[async_trait]
pub trait JobQueue: Send + Sync + 'static {
    /// Puts jobs into the queue, all or none. Workers elsewhere are woken.
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError>;

    /// Sets what a lane allows, from the next claim on.
    async fn configure(&self, lane: LaneId, settings: LaneSettings) -> Result<(), QueueError>;

    /// Lets nothing of a lane be claimed for this time, and after it one job at a time, until
    /// [`JobQueue::resume`]. What is claimed already goes on.
    async fn pause(&self, lane: LaneId, duration: std::time::Duration) -> Result<(), QueueError>;

    /// Ends a pause, and the one-at-a-time after it.
    async fn resume(&self, lane: LaneId) -> Result<(), QueueError>;

    /// Ends all waiting in a lane, because there is nothing to wait for any more: its pause, and the
    /// delays of up to `max` of its jobs. Returns how many jobs became ready.
    async fn expedite(&self, lane: LaneId, max: u32) -> Result<u64, QueueError>;

    /// Sets jobs of paused lanes aside, out of the way of those who claim, and brings jobs of lanes
    /// back that are paused no more; up to `max` each. Returns how many were brought back.
    async fn park(&self, max: u32) -> Result<u64, QueueError>;

    /// Claims ready jobs, lane by lane, a fair share of each.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError>;

    /// Makes leases last `lease` from now. Returns the jobs whose lease is still held.
    async fn extend(&self, leases: &[Lease], lease: std::time::Duration) -> Result<Vec<JobId>, QueueError>;

    /// Ends claims. Returns the jobs whose lease was still held; the others are left as they are.
    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError>;

    /// Makes jobs ready that have become due, up to `max`.
    async fn promote(&self, max: u32) -> Result<Promoted, QueueError>;

    /// Takes jobs back from workers that let their leases expire.
    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError>;

    /// How many jobs are in which state.
    async fn depth(&self) -> Result<Depth, QueueError>;

    /// How long that job has been ready which waits longest for nothing but a worker: of each lane
    /// the one that a claim would take first. None if there is none.
    ///
    /// What a lane holds back itself does not count: lanes that are paused or probing, and those from
    /// which a claim took all that their limits allowed no longer ago than `calm`.
    async fn longest_wait(
        &self,
        calm: std::time::Duration,
    ) -> Result<Option<std::time::Duration>, QueueError>;

    /// Tells workers, here and elsewhere, that there may be something to claim. A hint: it may be
    /// lost or come late, and polling is what counts.
    fn wake(&self);

    /// Hints that there may be something to claim. Take it before claiming, wait on it after.
    fn wakeups(&self) -> Wakeups;
}

/// A queue that lives in a database of the application's, and takes part in its transactions.
#[async_trait]
pub trait TransactionalQueue: JobQueue {
    /// Adds to `writes` what puts jobs into the queue. Call [`JobQueue::wake`] when it is committed.
    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes);

    /// Adds to `guarded` what removes jobs that are done, each with its lane, and expects that all their leases are
    /// held. Tells whether it could: a queue that cannot adds nothing, and its callers have [`Self::finish_in`].
    fn done_with(&self, done: &[(Lease, LaneId)], guarded: &mut Guarded) -> bool {
        let _ = (done, guarded);
        false
    }

    /// Puts jobs into the queue when `transaction` commits. Call [`JobQueue::wake`] after that.
    async fn enqueue_in(&self, transaction: &DatabaseTransaction, jobs: &[NewJob]) -> Result<(), QueueError> {
        let mut writes = Writes::new();
        self.enqueue_with(jobs, &mut writes);
        Ok(writes.execute(transaction).await?)
    }

    /// Sets what a lane allows when `transaction` commits.
    async fn configure_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        settings: LaneSettings,
    ) -> Result<(), QueueError>;

    /// [`JobQueue::pause`], when `transaction` commits.
    async fn pause_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        duration: std::time::Duration,
    ) -> Result<(), QueueError>;

    /// [`JobQueue::expedite`], when `transaction` commits. Call [`JobQueue::wake`] after that.
    async fn expedite_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        max: u32,
    ) -> Result<u64, QueueError>;

    /// [`JobQueue::resume`], when `transaction` commits. Call [`JobQueue::wake`] after that.
    async fn resume_in(&self, transaction: &DatabaseTransaction, lane: LaneId) -> Result<(), QueueError>;

    /// Ends claims when `transaction` commits. Returns the jobs whose lease is still held: if one
    /// of those asked for is missing, its worker must not commit what it did under that lease.
    async fn finish_in(
        &self,
        transaction: &DatabaseTransaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError>;
}
