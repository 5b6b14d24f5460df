//! Queues that live outside the store's database.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::{Finish, JobId, LaneId, LaneSettings, Lease, NewJob, WaitingJob};
use crate::queue::Queue;

/// All that decides when jobs of a lane may be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneState {
    /// The lane.
    pub lane: LaneId,
    /// Its owner.
    pub owner: String,
    /// Its limits.
    pub settings: LaneSettings,
    /// For how long it is still paused. Zero if it is not.
    pub paused_for: Duration,
    /// Since its last pause it lets one job at a time through.
    pub probing: bool,
    /// Why it gives no jobs until further notice.
    pub holds: LaneHolds,
}

/// Why a lane gives no jobs until further notice, if it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneHolds {
    /// [`Hold::Lane`](crate::Hold::Lane).
    pub lane: bool,
    /// [`Hold::Owner`](crate::Hold::Owner).
    pub owner: bool,
    /// Its jobs end without being claimed.
    pub draining: bool,
}

/// What tells the contents of a queue from other contents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Changes whenever the queue may have lost what it took in last, as when its server was restarted.
    pub run: String,
    /// What [`Fillable::mark`] has set. `None` if the queue has lost it, and with it all its jobs.
    pub marker: Option<Uuid>,
}

/// A claim that has ended in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The claim.
    pub lease: Lease,
    /// What becomes of the job.
    pub finish: Finish,
    /// The job's owner and subject, so that it can be offered again if the queue has lost it.
    pub about: Option<(String, Uuid)>,
}

/// What [`TransactionalQueue::relay`](crate::TransactionalQueue::relay) has told a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// How many jobs.
    pub jobs: u64,
    /// How many lanes.
    pub lanes: u64,
}

/// What waits in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The jobs of how many transactions: at most 10,000 are counted.
    pub transactions: u64,
    /// How long the oldest of them have waited.
    pub oldest: Option<Duration>,
}

/// What the store fills through its outbox, and fills again after a loss.
///
/// Every call may be repeated: what it has done already, it leaves alone.
#[async_trait]
pub trait Fillable: std::fmt::Debug + Send + Sync + 'static {
    /// Enqueues those of these jobs that the queue does not have, and wakes workers. Returns how many were new.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some jobs may have been enqueued all the same.
    async fn offer(&self, jobs: &[NewJob]) -> Result<u64, QueueError>;

    /// Does the same with all jobs that the store knows, some at a time. It is for queues that notice only now, at a cost, which
    /// jobs they have.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some jobs may have been enqueued all the same.
    async fn offer_again(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        self.offer(jobs).await
    }

    /// Does the same right after a commit, but leaves out the jobs of ordered lanes, as jobs that were committed earlier may not
    /// be here yet. Returns those that it has left out.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some jobs may have been enqueued all the same.
    async fn offer_unordered(&self, jobs: &[NewJob]) -> Result<Vec<JobId>, QueueError>;

    /// Makes lanes as described, whatever they were, and wakes workers. Creates those that do not exist.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some lanes may have changed all the same.
    async fn put_lanes(&self, lanes: &[LaneState]) -> Result<(), QueueError>;

    /// Returns what tells whether the queue has lost something.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn identity(&self) -> Result<Identity, QueueError>;

    /// Sets the marker that is lost when jobs are.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn mark(&self, marker: Uuid) -> Result<(), QueueError>;
}

/// A queue outside the store's database. It cannot take part in the store's transactions, and may lose jobs; the store knows
/// them all and offers them again.
///
/// Every call may be repeated: what it has done already, it leaves alone.
#[async_trait]
pub trait RemoteQueue: Queue + Fillable {
    /// Up to `max` jobs of a lane that no worker has claimed, whether they are due or not.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn waiting(&self, lane: LaneId, max: u32) -> Result<Vec<WaitingJob>, QueueError>;

    /// Removes those of these jobs of a lane that no worker has claimed.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some jobs may have been removed all the same.
    async fn remove(&self, lane: LaneId, jobs: &[JobId]) -> Result<(), QueueError>;
}
