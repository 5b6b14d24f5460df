//! What people see of a queue: its workers, and the lanes in which jobs wait.

use std::time::Duration;

use uuid::Uuid;

use crate::job::{LaneId, LaneSettings, WorkerId};

/// A worker that has checked in and not out. Moments are Unix milliseconds by the queue's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// The worker.
    pub worker: WorkerId,
    /// The name of its machine.
    pub host: String,
    /// The version of its program.
    pub version: String,
    /// When it first checked in.
    pub started_at: i64,
    /// When it last checked in.
    pub seen_at: i64,
    /// How many jobs it had claimed and not finished then.
    pub in_flight: u32,
    /// It has not checked in again in time: it has stopped, or cannot reach the queue.
    pub silent: bool,
}

/// Selects lanes in which jobs wait that are due.
#[derive(Clone, Debug)]
pub struct LaneQuery {
    /// Only lanes of this owner.
    pub owner: Option<String>,
    /// Only this lane.
    pub lane: Option<LaneId>,
    /// Which lanes come first.
    pub order: LaneOrder,
    /// Where to continue: the `next` of the page before.
    pub after: Option<LaneCursor>,
    /// The most lanes of the page, at least 1.
    pub limit: u16,
}

/// Which lanes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneOrder {
    /// Those with the most jobs that wait.
    Depth,
    /// Those whose first job has been ready for longest.
    Age,
}

/// Where a list of lanes continues. It means something to the queue that made it only. Jobs come and go between two pages, so
/// a lane can be on both or on neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCursor {
    /// The lane after which the queue looks for others, in the order of their ids.
    pub after: LaneId,
    /// How many of those that it finds were on earlier pages.
    pub skip: u32,
}

impl LaneQuery {
    /// The lane after which to look for others, and how many to examine, of at most `most`. One lane is the first that comes
    /// after the id before its own.
    pub fn examined(&self, most: usize) -> (LaneId, usize) {
        let just_before = |id: Uuid| LaneId(Uuid::from_u128(id.as_u128().saturating_sub(1)));
        match (self.lane, self.after) {
            (Some(lane), _) => (just_before(lane.0), 1),
            (None, Some(cursor)) => (cursor.after, most),
            (None, None) => (LaneId(Uuid::nil()), most),
        }
    }

    /// Whether a lane with jobs belongs to the list.
    pub fn selects(&self, lane: LaneId, owner: &str) -> bool {
        self.lane.is_none_or(|one| one == lane) && self.owner.as_ref().is_none_or(|one| one == owner)
    }
}

/// A page of lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanePage {
    /// The lanes, in the order asked for. A queue may examine some of its lanes for a page and put those in order, so the
    /// next page may begin with a deeper or older lane, and a page may be empty although another follows.
    pub lanes: Vec<LaneStatus>,
    /// Where the next page starts. `None` if this is the last one.
    pub next: Option<LaneCursor>,
}

/// A lane in which jobs wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The lane.
    pub lane: LaneId,
    /// Whose lane it is.
    pub owner: String,
    /// Its limits.
    pub settings: LaneSettings,
    /// Jobs that are due and that no worker has claimed.
    pub waiting: u64,
    /// Jobs that are not due yet.
    pub scheduled: u64,
    /// Whether there are more jobs than `waiting` or `scheduled` says: a queue counts a bounded number.
    pub more: bool,
    /// Jobs that are leased.
    pub running: u64,
    /// The age of the older one of the jobs that a claim would take first: the first of those that were not tried before,
    /// and of those that were.
    pub oldest: Duration,
    /// Why claims take nothing from the lane, or one job at a time. `None` if only its limits hold it back.
    pub pause: Option<LanePause>,
}

/// Why claims take nothing from a lane, or less than its limits allow. If there are several reasons, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanePause {
    /// Its jobs end without being claimed: [`Draining`](crate::Draining).
    Draining,
    /// It is held for its own sake: [`Hold::Lane`](crate::Hold::Lane).
    Held,
    /// All lanes of its owner are held: [`Hold::Owner`](crate::Hold::Owner).
    OwnerHeld,
    /// [`LaneControl::pause`](crate::LaneControl::pause) closed it for this time to come.
    Paused(Duration),
    /// It was paused, and lets one job at a time through until it is resumed.
    Probing,
    /// It is ordered, and its first job is to be tried again after this time.
    AwaitsRetry(Duration),
}
