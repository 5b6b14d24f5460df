//! What a queue holds and hands out.

use std::num::NonZeroU32;
use std::time::Duration;

use uuid::Uuid;

/// Names a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

/// Names a lane. The nil UUID names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub Uuid);

/// Fences a claim: whoever does not know it changes nothing. Made anew for each claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub Uuid);

/// A job to be put into the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Its id, of the caller's making.
    pub id: JobId,
    /// The lane that it stands in. A lane that does not exist yet is made, with default settings.
    pub lane: LaneId,
    /// What it is about.
    pub subject: Uuid,
    /// How long it waits before it may run.
    pub delay: Duration,
    /// A W3C `traceparent` that is handed to whoever claims it.
    pub trace: Option<String>,
}

impl NewJob {
    /// A job that may run at once.
    pub fn now(id: JobId, lane: LaneId, subject: Uuid) -> Self {
        Self { id, lane, subject, delay: Duration::ZERO, trace: None }
    }
}

/// What a lane allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSettings {
    /// How many of its jobs may run at once, over all workers; if not given, the claim says.
    pub concurrency: Option<NonZeroU32>,
    /// One job at a time, in the order in which they were enqueued: a job that is to be tried again
    /// keeps its place, and those behind it wait.
    pub ordered: bool,
    /// How fast its jobs may be claimed.
    pub rate: Option<LaneRate>,
}

/// How fast the jobs of a lane may be claimed: one each `interval`, up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRate {
    /// Time between jobs at the full rate; at least a microsecond.
    pub interval: Duration,
    /// How many may be claimed at once after a pause.
    pub burst: NonZeroU32,
}

/// A worker's time-limited claim on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// What proves the claim.
    pub token: LeaseToken,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The token of the leases that this claim makes; never used before.
    pub token: LeaseToken,
    /// How many jobs at most.
    pub max: u32,
    /// How long the leases last.
    pub lease: Duration,
    /// Lanes to leave out.
    pub skip: Vec<LaneId>,
    /// How many jobs of one lane may run at once, over all workers, where the lane itself does not say.
    pub lane_concurrency: NonZeroU32,
}

impl Claim {
    /// A claim on any lane, with 32 jobs of one lane at once.
    pub fn new(token: LeaseToken, max: u32, lease: Duration) -> Self {
        let lane_concurrency = NonZeroU32::MIN.saturating_add(31);
        Self { token, max, lease, skip: Vec::new(), lane_concurrency }
    }
}

/// A job that a worker has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The claim on it.
    pub lease: Lease,
    /// The lane that it stands in.
    pub lane: LaneId,
    /// What it is about.
    pub subject: Uuid,
    /// How often it was claimed, this time included.
    pub claims: u32,
    /// How often it was taken back from a worker that let its lease expire.
    pub rescues: u32,
    /// The W3C `traceparent` that it was enqueued with.
    pub trace: Option<String>,
}

/// What a claim came to.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The jobs, in the order in which to start them.
    pub jobs: Vec<ClaimedJob>,
    /// More may be claimable right now: claim again as soon as there is room.
    pub more: bool,
    /// Some lane has jobs that wait until one of its running jobs ends.
    pub blocked: bool,
    /// The soonest moment at which a paused lane, or one over its rate, opens again.
    pub opens_in: Option<Duration>,
}

/// How a claimed job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is done, and forgotten.
    Done,
    /// It is to be tried again after this time.
    RetryIn(Duration),
    /// It was not tried: whoever comes next takes it. As if it had not been claimed.
    Release,
    /// It is given up. The queue forgets it, or keeps it where it keeps such jobs; the dead letter is the caller's.
    Bury,
}

/// What became due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// How many jobs became ready.
    pub jobs: u64,
    /// How long until the next one is due.
    pub next_due_in: Option<Duration>,
}

/// How to take jobs back from workers that let their leases expire.
#[derive(Clone, Debug)]
pub struct Rescue {
    /// How many jobs at most.
    pub max: u32,
    /// A job that has been rescued this often already is not made ready again.
    pub max_rescues: u32,
    /// The token of the leases on such jobs; never used before.
    pub token: LeaseToken,
    /// How long those leases last.
    pub lease: Duration,
}

/// What a rescue came to.
#[derive(Clone, Debug, Default)]
pub struct Rescued {
    /// How many jobs are ready again.
    pub returned: u64,
    /// Jobs rescued too often. They are leased to the caller, who writes down that they are given
    /// up and then buries them; if the caller dies in between, the next one rescues them.
    pub exhausted: Vec<ClaimedJob>,
}

/// How many jobs are in which state. A queue may estimate what is above ten thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// May run now.
    pub ready: u64,
    /// May run later.
    pub scheduled: u64,
    /// Set aside while their lane is paused.
    pub parked: u64,
    /// Claimed.
    pub running: u64,
    /// How long the oldest ready job has been ready, of those that a claim would take first from their lanes.
    pub oldest_ready: Option<Duration>,
}
