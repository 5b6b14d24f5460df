//! Jobs, lanes and leases, and the arguments and results of a queue's calls.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use uuid::Uuid;

/// The id of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

/// The id of a lane. The nil UUID is no lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub Uuid);

/// The token that fences the leases of a claim: calls without it change nothing. Each claim needs a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub Uuid);

/// The id of a running worker. Workers that started earlier have smaller ones, as UUIDs of version 7 do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub Uuid);

/// A job to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// The id, chosen by the caller.
    pub id: JobId,
    /// The lane. A lane that does not exist yet is created with default settings.
    pub lane: LaneId,
    /// Whose job it is, and its lane. Owners take turns.
    pub owner: String,
    /// What the job is about, such as the id of a delivery.
    pub subject: Uuid,
    /// How long until the job is due.
    pub delay: Duration,
    /// A W3C `traceparent` for the worker that claims the job.
    pub trace: Option<String>,
}

impl NewJob {
    /// A job that is ready at once.
    pub fn now(id: JobId, lane: LaneId, owner: impl Into<String>, subject: Uuid) -> Self {
        Self { id, lane, owner: owner.into(), subject, delay: Duration::ZERO, trace: None }
    }
}

/// The limits of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSettings {
    /// How many of its jobs may run at once, over all workers. `None` leaves it to the claim.
    pub concurrency: Option<NonZeroU32>,
    /// One job at a time, in the order in which they were enqueued. A job that is retried keeps its place, and the jobs
    /// behind it wait.
    pub ordered: bool,
    /// How fast its jobs may be claimed. `None` sets no limit.
    pub rate: Option<LaneRate>,
}

/// How fast the jobs of a lane may be claimed: one each `interval`, up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRate {
    /// The time between jobs at the full rate, at least 1 µs.
    pub interval: Duration,
    /// How many jobs may be claimed at once when none was claimed for a while.
    pub burst: NonZeroU32,
}

/// Whether a lane's waiting jobs end without being claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draining {
    /// They do not: the lane is open.
    No,
    /// They do. The lane stays.
    Yes,
    /// They do, and the lane is removed some time later.
    ThenRemoved,
}

/// For whom a lane is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// For its own sake.
    Lane,
    /// Because all lanes of its owner are.
    Owner,
}

/// A worker's time-limited hold on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The token of the claim.
    pub token: LeaseToken,
    /// The job's lane.
    pub lane: LaneId,
    /// Where in its lane the queue finds the job.
    pub place: Place,
}

/// Where in its lane a queue keeps a job. It means something to that queue only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Lanes are served by ascending priority,
    pub priority: i16,
    /// and within a priority by ascending number.
    pub seq: i64,
}

/// A job that waits in a draining lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingJob {
    /// The job.
    pub id: JobId,
    /// Whose job it is.
    pub owner: String,
    /// What it is about.
    pub subject: Uuid,
    /// Where in its lane it is.
    pub place: Place,
    /// Whether it is due.
    pub due: bool,
}

/// What a running worker says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckIn {
    /// The worker.
    pub worker: WorkerId,
    /// The name of its machine.
    pub host: String,
    /// The version of its program.
    pub version: String,
    /// How many jobs it has claimed and not finished.
    pub in_flight: u32,
    /// Nearly all its worker slots are taken: others should help.
    pub busy: bool,
    /// It has stopped, or cannot reach the queue, if it does not check in again within this time.
    pub lapse: Duration,
}

/// A worker's part among all that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// It is the one that promotes, rescues and does whatever else one worker can do for all. Two may believe so for a
    /// moment, and none may: nothing depends on it.
    pub leads: bool,
    /// It serves lanes, and is woken when they have jobs. If not, it only looks for lanes that nobody serves.
    pub serves: bool,
    /// How often to claim without a hint, and to check in again, for the sake of other workers' lanes.
    pub look_every: Option<Duration>,
}

impl Default for Duties {
    /// The duties of a worker that knows of no other one.
    fn default() -> Self {
        Self { leads: true, serves: true, look_every: None }
    }
}

/// The arguments of a claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The token of the claim's leases. It must be new.
    pub token: LeaseToken,
    /// The maximum number of jobs.
    pub max: u32,
    /// How long the leases last.
    pub lease: Duration,
    /// Lanes to skip.
    pub skip: HashSet<LaneId>,
    /// Owners whose lanes to skip.
    pub skip_owners: Vec<String>,
    /// How many jobs of a lane without a limit of its own may run at once, over all workers.
    pub lane_concurrency: NonZeroU32,
    /// The worker that claims, if it keeps to the limits in [`Claimed::limits`] by itself.
    pub worker: Option<WorkerId>,
    /// How many jobs more than may run at once the worker claims of a lane all of whose claimed jobs are its own. It has
    /// requests in flight for some of them only. Not for lanes with a rate or strict order.
    pub ahead: HashMap<LaneId, u32>,
    /// Earlier claims whose jobs have all been finished. The queue forgets them. Claims that are never named here are
    /// forgotten when they have expired.
    pub ended: Vec<LeaseToken>,
}

impl Claim {
    /// A claim on all lanes, with at most 32 running jobs of a lane without a limit of its own.
    pub fn new(token: LeaseToken, max: u32, lease: Duration) -> Self {
        let lane_concurrency = NonZeroU32::MIN.saturating_add(31);
        Self {
            token,
            max,
            lease,
            skip: HashSet::new(),
            skip_owners: Vec::new(),
            lane_concurrency,
            worker: None,
            ahead: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// How many jobs of a lane this claims ahead, for a database.
    pub(crate) fn ahead_in(&self, lane: LaneId) -> i32 {
        self.ahead.get(&lane).map_or(0, |jobs| i32::try_from(*jobs).unwrap_or(i32::MAX / 4).min(i32::MAX / 4))
    }
}

/// A job that a worker has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The lease on the job.
    pub lease: Lease,
    /// The owner with which the job was enqueued.
    pub owner: String,
    /// What the job is about, such as the id of a delivery.
    pub subject: Uuid,
    /// How often the job was claimed, this claim included.
    pub claims: u32,
    /// How often the job was rescued.
    pub rescues: u32,
    /// The W3C `traceparent` with which the job was enqueued.
    pub trace: Option<String>,
}

/// The result of a claim.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The jobs, in the order in which to start them.
    pub jobs: Vec<ClaimedJob>,
    /// More jobs may be ready: claim again as soon as there is room.
    pub more: bool,
    /// Some lane has ready jobs that wait until one of its running jobs ends.
    pub blocked: bool,
    /// How many jobs of a lane may run at once, for the lanes of these jobs, if the queue claims ahead.
    pub limits: HashMap<LaneId, u32>,
    /// How long until the next lane that is paused or over its rate opens. `None` if there is no such lane.
    pub opens_in: Option<Duration>,
}

/// How a claimed job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The job is done and is removed.
    Done,
    /// The job is retried after this time.
    RetryIn(Duration),
    /// The job was not tried. It is ready again, as if it had not been claimed.
    Release,
    /// The job is given up. The queue removes it, or keeps it where it keeps such jobs; the caller records the dead
    /// letter.
    Bury,
}

/// The result of promoting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// How many jobs became ready.
    pub jobs: u64,
    /// How long until the next scheduled job is due. `None` if there is none.
    pub next_due_in: Option<Duration>,
}

/// The arguments of a rescue.
#[derive(Clone, Debug)]
pub struct Rescue {
    /// The maximum number of jobs.
    pub max: u32,
    /// A job that has been rescued this often already is exhausted: it is not made ready again.
    pub max_rescues: u32,
    /// The token of the leases on exhausted jobs. It must be new.
    pub token: LeaseToken,
    /// How long those leases last.
    pub lease: Duration,
}

/// The result of a rescue.
#[derive(Clone, Debug, Default)]
pub struct Rescued {
    /// How many jobs are ready again.
    pub returned: u64,
    /// Jobs that have been rescued too often. They are leased to the caller, which records that they are given up and then
    /// buries them. If the caller dies in between, the next rescue returns them again.
    pub exhausted: Vec<ClaimedJob>,
}

/// The number of jobs in each state. Of long queues a queue may estimate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Jobs that may be claimed.
    pub ready: u64,
    /// Jobs that are not due yet.
    pub scheduled: u64,
    /// Jobs that wait in paused lanes.
    pub held: u64,
    /// Jobs that are leased.
    pub running: u64,
    /// The age of the oldest ready job, among the jobs that a claim would take first from their lanes. `None` if no job is
    /// ready. Of many lanes a queue may look at some.
    pub oldest_ready: Option<Duration>,
}
