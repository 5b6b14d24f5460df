//! The traits that every queue implements, wherever it lives.
//!
//! [`JobQueue`] is the worker's half, [`LaneControl`] sets limits and pauses, [`JobSink`] takes jobs in, and [`QueueReads`]
//! shows people what is there. [`Queue`] is all four. None of them knows of transactions: a queue in Redis can implement them as well as one in the
//! database. What only a queue in the store's own database can do is in
//! [`TransactionalQueue`](crate::TransactionalQueue).

use std::time::Duration;

use async_trait::async_trait;

use crate::error::QueueError;
use crate::job::{
    CheckIn, Claim, Claimed, Depth, Duties, Finish, Hold, JobId, LaneId, LaneSettings, Lease, NewJob,
    Promoted, Rescue, Rescued, WorkerId,
};
use crate::view::{LanePage, LaneQuery, WorkerStatus};
use crate::wake::Wakeups;

/// What a worker needs of a queue of jobs in lanes. Every call serves many jobs at once.
///
/// Every implementation keeps these rules, which the suite `conformance` checks:
/// - a job is claimed by one worker at a time, for the duration of its lease;
/// - a call that names a lease changes nothing after the lease has expired and the job has been rescued;
/// - within a lane, jobs are claimed in the order in which they were enqueued, retries after first attempts (unless the
///   lane is ordered);
/// - a lane never runs more jobs than it allows, whatever the number of workers;
/// - a job is never claimed before it is due.
///
/// # Recording in two steps
///
/// A worker records an outcome in the store. If the queue is a [`TransactionalQueue`](crate::TransactionalQueue), the
/// same transaction finishes the job. With any other queue the worker records first, fenced by the job's id and the
/// attempt's number, and calls [`JobQueue::finish`] after the commit. If it dies in between, the job is claimed again,
/// its delivery no longer names it or has ended, and the claim ends without a request. If the store rejects the outcome
/// because another worker recorded first, the worker finishes its job as [`Finish::Release`], so that the job is
/// examined again: with its own outcome it could remove the only job of a pending delivery.
#[async_trait]
pub trait JobQueue: Send + Sync + 'static {
    /// Claims ready jobs, lane by lane, a fair share of each.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Jobs may have been claimed all the same; their leases expire.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError>;

    /// Prolongs leases to `lease` from now. Returns the jobs whose leases are still valid.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError>;

    /// Ends claims. Returns the jobs whose leases were still valid; the others are left unchanged.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Some or all claims may have ended all the same.
    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError>;

    /// Makes up to `max` scheduled jobs ready that are due.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn promote(&self, max: u32) -> Result<Promoted, QueueError>;

    /// Takes back jobs whose leases have expired.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError>;

    /// Registers a running worker, or says that it still runs. Returns its duties. Claims through this queue then leave
    /// the lanes that another worker serves to that worker, unless they wait. Without it, every worker serves all lanes.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. What the last call returned holds for a few seconds.
    async fn check_in(&self, _worker: &CheckIn) -> Result<Duties, QueueError> {
        Ok(Duties::default())
    }

    /// Removes a worker that claims nothing more, so that others serve its lanes.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. The others notice within seconds that the worker does not check in.
    async fn check_out(&self, _worker: WorkerId) -> Result<(), QueueError> {
        Ok(())
    }

    /// Returns whether the workers that checked in through this queue serve this lane. If they do not, they wake the one
    /// that does when they finish jobs of the lane.
    fn serves(&self, _lane: LaneId) -> bool {
        true
    }

    /// Keeps claims cheap. Workers call it about once a second. The queue works without it, too.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn tidy(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Counts the jobs in each state.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn depth(&self) -> Result<Depth, QueueError>;

    /// The age of the oldest ready job that is blocked only by a lack of workers, among the jobs that a claim would
    /// take first from their lanes. `None` if there is no such job.
    ///
    /// Lanes that hold their jobs back do not count: those that are paused or probing, and those from which a claim
    /// took all that their limits allowed within the last `calm`. Of many lanes a queue may look at some in each call.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError>;

    /// Hints to workers, in this process and others, that jobs may be ready in these lanes, or in any lane if none is
    /// named. A hint may be lost or late: workers poll as well.
    fn wake(&self, lanes: &[LaneId]);

    /// Listens for such hints. Mark them as seen before claiming, and wait for one afterwards.
    fn wakeups(&self) -> Wakeups;
}

/// Limits and pauses of lanes. A lane that does not exist yet is created with default settings by its first job.
#[async_trait]
pub trait LaneControl: Send + Sync + 'static {
    /// Sets the limits of a lane, from the next claim on, and wakes workers. Creates the lane for this owner if it does
    /// not exist.
    ///
    /// A new rate holds at once: the lane owes as many jobs to it as it owed to the old one, and at most a burst. A lane
    /// that is no longer ordered does not wait for its retry any more.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn configure(&self, lane: LaneId, owner: &str, settings: LaneSettings) -> Result<(), QueueError>;

    /// Stops claims on a lane for `duration`. After that the lane lets one job at a time through, as a probe, until
    /// [`LaneControl::resume`]. Jobs that are running continue.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn pause(&self, lane: LaneId, duration: Duration) -> Result<(), QueueError>;

    /// Ends a pause and the probing after it, and wakes workers.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn resume(&self, lane: LaneId) -> Result<(), QueueError>;

    /// Stops claims on these lanes of an owner until [`LaneControl::release`], whatever else happens to them. Jobs that are
    /// running continue, others can be enqueued. Creates lanes that do not exist. A lane can be held for both reasons, and
    /// then needs both releases.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn hold(&self, lanes: &[LaneId], owner: &str, hold: Hold) -> Result<(), QueueError>;

    /// Ends what [`LaneControl::hold`] began for the same reason, and wakes workers.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn release(&self, lanes: &[LaneId], hold: Hold) -> Result<(), QueueError>;
}

/// Takes jobs in, outside any transaction of the caller.
///
/// A queue that cannot join the store's transaction is filled through an outbox. The store writes the jobs of an event as
/// rows in the same transaction as the event; after the commit the jobs are enqueued here and the rows deleted; a relay
/// does the same for rows that a crash left behind. The relay may enqueue a job for the second time, which is harmless: a
/// delivery names its job, and a job that has been removed from the queue in between finds a delivery that has ended or
/// names another job. See `docs/adr/0019-queues-outside-the-database.md`.
#[async_trait]
pub trait JobSink: Send + Sync + 'static {
    /// Enqueues jobs, all or none, and wakes workers. Their ids are new: a queue need not notice one that it has already.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError>;
}

/// What people see of a queue. The cost of each call is bounded, however many lanes and jobs there are.
#[async_trait]
pub trait QueueReads: Send + Sync + 'static {
    /// Returns the workers that have checked in and not out, the oldest first, a thousand at most. The queue forgets a worker
    /// that has been silent for about a minute.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn workers(&self) -> Result<Vec<WorkerStatus>, QueueError>;

    /// Returns a page of the lanes in which jobs wait that are due. Up to 500 lanes are in the order asked for, over all their
    /// pages. Of more, the queue may put some after the other in order.
    ///
    /// # Errors
    /// Fails if the queue is unavailable.
    async fn lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError>;
}

/// A whole queue: jobs go in, lanes are controlled, workers take jobs out, and people see what is there.
///
/// Every type that implements the four traits implements this one. The suite `conformance` asks for no more.
pub trait Queue: JobQueue + LaneControl + JobSink + QueueReads {}

impl<Q: JobQueue + LaneControl + JobSink + QueueReads> Queue for Q {}
