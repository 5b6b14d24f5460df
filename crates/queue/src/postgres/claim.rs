//! Claiming: a fair share of each lane whose turn it is.
//!
//! The lanes to look at come from [`Turns`]. Lanes that allow nothing now are passed over; the others are locked for the
//! length of the statement, which makes their limits exact over all workers. A lane that another worker has locked is
//! passed over too, and the claim says that there is more.

use std::collections::HashMap;

use postrider_database::sql::{Part, Template, column, query_all};
use postrider_database::{Database, DatabaseError, Dialect};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::claiming::{Taken, in_turn};
use crate::job::{Claim, LaneId};
use crate::join::{Join, Joined};
use crate::tables::{
    FIRST_JOBS, LANE_RULES, PRIORITIES, SHUT, WITHHELD, claimed_job, duration, integer, millis,
};
use crate::turns::{Fate, Looked, Turns};

static CLAIM: Template = Template::new(
    include_str!("claim.sql"),
    &[LANE_RULES, WITHHELD, RULES_HERE, super::heads::HEADS, SHUT, FIRST_JOBS, PRIORITIES],
);

const RULES_HERE: &[Part] = &[
    ("moment", "now"),
    ("default_concurrency", "$5"),
    ("unlimited", "$2"),
    ("taken", "tally.jobs"),
    ("running_before", "running_before"),
    ("worker", "$8::uuid"),
    ("ahead", "ahead"),
    (
        "is_ready",
        "coalesce(coalesce({first_new}, {first_again}) < CASE WHEN least_wait = 0 THEN 9223372036854775807 \
            WHEN served_at < now - least_wait THEN now - least_wait ELSE 0 END, false)",
    ),
];

/// Claims jobs of these lanes. Returns also what `join` reads about them.
pub(super) async fn take(
    turns: &Turns,
    database: &Database,
    claim: &Claim,
    lanes: &[LaneId],
    join: Option<&Join>,
) -> Result<(Taken, Joined), DatabaseError> {
    let workers = turns.workers();
    let least_wait = |lane: &LaneId| millis(workers.take_over_after(*lane));
    let values: [Value; 10] = [
        lanes.iter().map(|lane| lane.0).collect::<Vec<Uuid>>().into(),
        i64::from(claim.max).into(),
        claim.token.0.into(),
        millis(claim.lease).into(),
        integer(claim.lane_concurrency.get()).into(),
        claim.ended.iter().map(|token| token.0).collect::<Vec<Uuid>>().into(),
        lanes.iter().map(least_wait).collect::<Vec<i64>>().into(),
        claim.worker.map(|worker| worker.0).into(),
        lanes.iter().map(|lane| claim.ahead_in(*lane)).collect::<Vec<i32>>().into(),
        claim.skip_owners.clone().into(),
    ];
    let sql = CLAIM.on(Dialect::Postgres);
    let sql = join.map_or(sql, |join| join.fill(sql));
    let (mut jobs, mut fates, mut blocked) = (Vec::new(), HashMap::<LaneId, (String, Fate)>::new(), false);
    let (mut joined, mut limits) = (Joined::default(), HashMap::new());
    for row in query_all(database.connection(), sql, values).await? {
        if column::<Option<Uuid>>(&row, "id")?.is_some() {
            let job = claimed_job(&row, claim.token)?;
            if join.is_some() {
                joined.jobs.insert(job.lease.job, row);
            }
            jobs.push(job);
        } else {
            let lane = LookedAt::read(&row)?;
            blocked |= lane.is_blocked();
            let id = LaneId(column(&row, "lane")?);
            let owner: String = column(&row, "owner")?;
            let fate = lane.fate(claim.max, claim.skip_owners.contains(&owner));
            let has_jobs = lane.has_jobs();
            fates.insert(id, (owner, fate));
            if claim.worker.is_some() {
                limits.insert(id, u32::try_from(column::<i32>(&row, "may_run")?).unwrap_or(1));
            }
            if join.is_some() && has_jobs {
                joined.lanes.insert(id, row);
            }
        }
    }
    // In turn: the rows come in any order.
    let looked: Vec<Looked> = lanes.iter().map(|lane| Looked::read(*lane, fates.remove(lane))).collect();
    let left = turns.looked(&looked, jobs.len());
    Ok((Taken { jobs: in_turn(jobs), left, blocked, limits }, joined))
}

/// A lane that a claim looked at.
struct LookedAt {
    ready: bool,
    closed_for: i64,
    at_limit: bool,
    /// `None` if it was not locked.
    locked: Option<Locked>,
    /// How many lanes were locked.
    lanes: i64,
    /// How many jobs of all lanes were picked.
    all_picked: i64,
}

struct Locked {
    /// How many jobs the lane allowed, and how many were its share of the claim.
    room: i64,
    share: i64,
    picked: i64,
    taken: i32,
    running_before: i32,
    allowed: i32,
    /// For how many milliseconds its rate allows no more.
    rate_for: i64,
}

impl LookedAt {
    fn read(row: &QueryResult) -> Result<Self, DatabaseError> {
        let locked = |room| -> Result<Locked, DatabaseError> {
            Ok(Locked {
                room,
                share: column(row, "share")?,
                picked: column(row, "picked")?,
                taken: column(row, "taken")?,
                running_before: column(row, "running_before")?,
                allowed: column(row, "allowed")?,
                rate_for: column::<Option<i64>>(row, "rate_for")?.unwrap_or_default(),
            })
        };
        Ok(Self {
            ready: column(row, "ready")?,
            closed_for: column(row, "closed_for")?,
            at_limit: column(row, "at_limit")?,
            locked: column::<Option<i64>>(row, "room")?.map(locked).transpose()?,
            lanes: column(row, "locked_lanes")?,
            all_picked: column(row, "all_picked")?,
        })
    }

    fn fate(&self, max: u32, skipped: bool) -> Fate {
        match &self.locked {
            _ if !self.ready => Fate::Nothing,
            _ if self.closed_for > 0 => Fate::Closed(duration(self.closed_for)),
            _ if self.at_limit => Fate::Full,
            None if skipped || self.lanes >= i64::from(max) => Fate::NotReached,
            None => Fate::Contended,
            Some(lane) if lane.rate_for > 0 => Fate::Closed(duration(lane.rate_for)),
            Some(lane) if lane.is_full() => Fate::Full,
            // Some were taken by another claim since the statement began.
            Some(lane) if i64::from(lane.taken) < lane.picked => Fate::Contended,
            // In the last turn there was no room for all lanes.
            Some(lane) if self.all_picked >= i64::from(max) && lane.picked + 1 == lane.share => Fate::More,
            Some(lane) if lane.picked < lane.room.min(lane.share) => Fate::Nothing,
            Some(_) => Fate::More,
        }
    }

    fn has_jobs(&self) -> bool {
        self.locked.as_ref().is_some_and(|locked| locked.taken > 0)
    }

    /// Returns whether ready jobs wait until a running one ends.
    fn is_blocked(&self) -> bool {
        let full = self.locked.as_ref().is_some_and(Locked::is_full);
        self.ready && self.closed_for <= 0 && (self.at_limit || full)
    }
}

impl Locked {
    fn is_full(&self) -> bool {
        self.running_before + self.taken >= self.allowed
    }
}
