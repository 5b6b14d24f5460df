//! A queue in memory: an implementation without transactions that passes the suite, and with deliberate flaws that the
//! suite must detect.

mod reads;
mod state;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::conformance::Fixture;
use postrider_queue::{
    Bell, CheckIn, Claim, Claimed, Depth, Duties, Finish, Hold, JobId, JobQueue, JobSink, LaneControl,
    LaneId, LanePage, LaneQuery, LaneSettings, Lease, NewJob, Promoted, Queue, QueueError, QueueReads,
    Rescue, Rescued, Wakeups, WorkerId, WorkerStatus,
};

use self::state::State;

/// A mistake of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    FinishIgnoresTheToken,
    ExtendIgnoresTheToken,
    NoLaneCap,
    NewestFirst,
    RetriesFirst,
    PromotesEarly,
    RescuesLiveLeases,
    RescueForgetsTheLane,
    RescuesForEver,
    ReleaseGoesToTheBack,
    BuriedStays,
    FinishForgetsTheLane,
    OneLaneTakesAll,
    ForgetsOwners,
    ForgetsToRing,
    LosesEveryThousandth,
    StopsAtPausedLanes,
    KeepsTheDebtOfTheOldRate,
    ChangesGiveABurst,
    ResumingEndsHolds,
    OneReleaseEndsAllHolds,
    ListsLanesOfAllOwners,
    RepeatsPages,
    ForgetsWhyItIsClosed,
    NeverForgetsWorkers,
}

/// A queue in memory whose clock the test controls.
#[derive(Debug)]
pub(crate) struct InMemory {
    queue: Arc<MemoryQueue>,
}

impl InMemory {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    pub(crate) fn flawed(flaw: Flaw) -> Self {
        Self::with(Some(flaw))
    }

    fn with(flaw: Option<Flaw>) -> Self {
        Self {
            queue: Arc::new(MemoryQueue { state: Mutex::new(State::new(flaw)), bell: Bell::default(), flaw }),
        }
    }
}

#[async_trait]
impl Fixture for InMemory {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue) as Arc<dyn Queue>
    }

    async fn advance(&self, by: Duration) {
        self.queue.state().advance(by);
    }
}

#[derive(Debug)]
struct MemoryQueue {
    state: Mutex<State>,
    bell: Bell,
    flaw: Option<Flaw>,
}

impl MemoryQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        Ok(self.state().claim(claim))
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        Ok(self.state().extend(leases, lease))
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        Ok(self.state().finish(finished))
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        Ok(self.state().promote(max))
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let rescued = self.state().rescue(rescue);
        if rescued.returned > 0 {
            self.wake(&[]);
        }
        Ok(rescued)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.state().depth())
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        Ok(self.state().longest_wait(calm))
    }

    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        self.state().check_in(worker);
        Ok(Duties::default())
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.state().check_out(worker);
        Ok(())
    }

    fn wake(&self, _: &[LaneId]) {
        if self.flaw != Some(Flaw::ForgetsToRing) {
            self.bell.ring();
        }
    }

    fn wakeups(&self) -> Wakeups {
        self.bell.listen()
    }
}

#[async_trait]
impl QueueReads for MemoryQueue {
    async fn workers(&self) -> Result<Vec<WorkerStatus>, QueueError> {
        Ok(self.state().workers())
    }

    async fn lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        Ok(self.state().list_lanes(query))
    }
}

#[async_trait]
impl JobSink for MemoryQueue {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError> {
        self.state().enqueue(jobs);
        self.wake(&[]);
        Ok(())
    }
}

#[async_trait]
impl LaneControl for MemoryQueue {
    async fn configure(&self, lane: LaneId, owner: &str, settings: LaneSettings) -> Result<(), QueueError> {
        self.state().configure(lane, owner, settings);
        self.wake(&[]);
        Ok(())
    }

    async fn pause(&self, lane: LaneId, duration: Duration) -> Result<(), QueueError> {
        self.state().pause(lane, duration);
        Ok(())
    }

    async fn resume(&self, lane: LaneId) -> Result<(), QueueError> {
        self.state().resume(lane);
        self.wake(&[]);
        Ok(())
    }

    async fn hold(&self, lanes: &[LaneId], owner: &str, hold: Hold) -> Result<(), QueueError> {
        self.state().hold(lanes, owner, hold);
        Ok(())
    }

    async fn release(&self, lanes: &[LaneId], hold: Hold) -> Result<(), QueueError> {
        self.state().release(lanes, hold);
        self.wake(&[]);
        Ok(())
    }
}
