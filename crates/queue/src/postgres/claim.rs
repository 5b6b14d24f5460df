//! Claiming: a walk from lane to lane, and a fair share of each.
//!
//! The walk is a loose index scan (PostgreSQL's wiki, "Loose indexscan"): a recursive query that looks up the next lane
//! after the last in the index of ready jobs, so that a lane with a million jobs costs as much as one with a single job.
//! From a shut lane it continues with the next lane that is not shut, so that any number of paused lanes between two open
//! ones costs as much as one. Lanes that allow nothing now are passed over; the others are locked for the length of the
//! statement, which makes their limits exact over all workers. A lane that another worker has locked is passed over too,
//! and the claim says that there is more.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use postrider_database::sql::{Part, Template, column, query_all};
use postrider_database::{Database, DatabaseError, Dialect};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::job::{Claim, Claimed, ClaimedJob, LaneId, LeaseToken};
use crate::tables::{LANE_RULES, STATES, claimed_job, duration, integer, millis};

static CLAIM: Template = Template::new(include_str!("claim.sql"), &[LANE_RULES, RULES_HERE, STATES]);

const RULES_HERE: &[Part] =
    &[("moment", "now"), ("default_concurrency", "$7"), ("unlimited", "$4"), ("taken", "tally.jobs")];

/// How many lanes a claim looks at beyond those it can serve.
const LOOK_AHEAD: i64 = 256;

/// Visits all lanes in turn, some in each claim.
#[derive(Debug, Default)]
pub(super) struct Walk {
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The next claim starts after this lane.
    after: Uuid,
    /// Where the walk was when claims began to find nothing. When it gets there again, nothing can be claimed.
    dry_since: Option<Uuid>,
}

impl Walk {
    pub(super) async fn claim(&self, database: &Database, claim: &Claim) -> Result<Claimed, DatabaseError> {
        let Place { after, mut dry_since } = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut step = take(database, claim, after).await?;
        let mut is_round = step.ends_round(after, &mut dry_since);
        if step.claimed.jobs.is_empty() && !after.is_nil() && step.next_start.is_nil() && !is_round {
            step = take(database, claim, Uuid::nil()).await?;
            is_round = step.ends_round(Uuid::nil(), &mut dry_since);
        }
        let Step { mut claimed, next_start, contended } = step;
        claimed.more &= !is_round || contended;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Place { after: next_start, dry_since };
        Ok(claimed)
    }
}

struct Step {
    claimed: Claimed,
    /// The nil id at the end of the lanes.
    next_start: Uuid,
    /// Another worker had locked some lane.
    contended: bool,
}

impl Step {
    /// Returns whether this step, which began after `start`, completes a round of the walk that found nothing.
    fn ends_round(&self, start: Uuid, dry_since: &mut Option<Uuid>) -> bool {
        if !self.claimed.jobs.is_empty() {
            *dry_since = None;
            return false;
        }
        let since = *dry_since.get_or_insert(start);
        let came_to_end = self.next_start.is_nil();
        // After the end the walk continues from the beginning, up to where it was dry before.
        let is_round = if start < since {
            came_to_end || self.next_start >= since
        } else {
            came_to_end && since.is_nil()
        };
        if is_round {
            *dry_since = None;
        }
        is_round
    }
}

async fn take(database: &Database, claim: &Claim, start: Uuid) -> Result<Step, DatabaseError> {
    let values: [Value; 7] = [
        start.into(),
        (i64::from(claim.max) + LOOK_AHEAD).into(),
        claim.skip.iter().map(|lane| lane.0).collect::<Vec<Uuid>>().into(),
        i64::from(claim.max).into(),
        claim.token.0.into(),
        millis(claim.lease).into(),
        integer(claim.lane_concurrency.get()).into(),
    ];
    let rows = query_all(database.connection(), CLAIM.on(Dialect::Postgres), values).await?;
    let Some(first) = rows.first() else {
        return Ok(Step { claimed: Claimed::default(), next_start: Uuid::nil(), contended: false });
    };
    let seen = Seen::read(first)?;

    let jobs = in_turn(&rows, claim.token)?;

    let served: HashSet<LaneId> = jobs.iter().map(|job| job.lane).collect();
    let full = jobs.len() as u64 >= u64::from(claim.max);
    let next_start = if full && i64::try_from(served.len()).is_ok_and(|served| served < seen.open) {
        // There was no room for all lanes. The next claim begins after the last one served.
        served.iter().map(|lane| lane.0).max().unwrap_or_default()
    } else if seen.reached_end {
        Uuid::nil()
    } else {
        seen.last_lane.unwrap_or_default()
    };
    let contended = seen.locked < seen.open;
    let more = full || contended || seen.cut || !seen.reached_end;
    let claimed = Claimed { jobs, more, blocked: seen.blocked, opens_in: seen.opens_in.map(duration) };
    Ok(Step { claimed, next_start, contended })
}

/// The first job of each lane, then the second of each, and so on.
fn in_turn(rows: &[QueryResult], token: LeaseToken) -> Result<Vec<ClaimedJob>, DatabaseError> {
    let mut jobs: Vec<((i16, i64), ClaimedJob)> = Vec::with_capacity(rows.len());
    for row in rows {
        if column::<Option<Uuid>>(row, "id")?.is_some() {
            jobs.push(((column(row, "priority")?, column(row, "seq")?), claimed_job(row, token)?));
        }
    }
    jobs.sort_unstable_by_key(|(place, _)| *place);
    let mut turns: HashMap<LaneId, u32> = HashMap::new();
    let mut jobs: Vec<(u32, ClaimedJob)> = jobs
        .into_iter()
        .map(|(_, job)| {
            let turn = turns.entry(job.lane).or_default();
            *turn += 1;
            (*turn, job)
        })
        .collect();
    jobs.sort_by_key(|(turn, _)| *turn);
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

/// The statement's summary of the lanes that it visited.
struct Seen {
    /// How many lanes allowed something.
    open: i64,
    /// How many of those no other worker had locked.
    locked: i64,
    /// Some lane had more than its share of this claim.
    cut: bool,
    /// Some lane runs as many jobs as it may.
    blocked: bool,
    reached_end: bool,
    last_lane: Option<Uuid>,
    opens_in: Option<i64>,
}

impl Seen {
    fn read(row: &QueryResult) -> Result<Self, DatabaseError> {
        Ok(Self {
            open: column(row, "open_lanes")?,
            locked: column(row, "locked_lanes")?,
            cut: column(row, "cut")?,
            blocked: column(row, "blocked")?,
            reached_end: column(row, "reached_end")?,
            last_lane: column(row, "last_lane")?,
            opens_in: column(row, "opens_in")?,
        })
    }
}
