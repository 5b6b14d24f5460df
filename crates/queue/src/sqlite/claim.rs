//! Claiming on SQLite: the same turns, in steps.
//!
//! The transaction takes the write lock when it begins, which makes the lanes' limits exact.

use std::collections::{HashMap, HashSet};

use postrider_database::sql::{Template, column, execute};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Transaction};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::claiming::{Taken, in_turn};
use crate::job::{Claim, ClaimedJob, LaneId};
use crate::tables::{
    FIRST_JOBS, LANE_RULES, PRIORITIES, SHUT, WITHHELD, claimed_job, duration, integer, millis,
};
use crate::turns::{Fate, Looked, Turns};

const LANE: &[Column] = &[Column::new("id", Kind::Uuid)];
const GIVEN: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("ahead", Kind::Int)];
const COUNTED: &[Column] =
    &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Big), Column::new("is_full", Kind::Bool)];
const WANTED: &[Column] = &[
    Column::new("lane", Kind::Uuid),
    Column::new("jobs", Kind::Big),
    Column::new("siblings", Kind::Big),
    Column::new("place", Kind::Big),
];

static LOOK: Template = Template::new(
    "SELECT lanes.id, owner, max(paused_until - {now}, {rate_for}) AS closed_for, {at_limit} AS at_limit,
         NOT {withheld} AND {has_ready} AS ready, {may_claim} AS open, min({allowed} - running, {rate_room}) AS room,
         {allowed} - running AS free, {may_run} AS may_run
     FROM input CROSS JOIN lanes ON lanes.id = input.id",
    &[
        LANE_RULES,
        WITHHELD,
        &[
            ("moment", "{now}"),
            ("default_concurrency", "$1"),
            ("unlimited", "$2"),
            ("worker", "$3"),
            ("ahead", "ahead"),
        ],
        FIRST_JOBS,
        PRIORITIES,
    ],
);

/// The first jobs of each lane, one after the other, since SQLite knows no limit for each of several lanes.
static TAKE: &str = ", picked(lane, jobs, siblings, place, turn, priority, seq) AS (
         SELECT input.lane, input.jobs, input.siblings, input.place, 1, first.priority, first.seq
         FROM input CROSS JOIN jobs AS first ON first.seq = (
             SELECT seq FROM jobs WHERE jobs.lane = input.lane AND lease_token IS NULL ORDER BY priority, seq LIMIT 1
         )
         UNION ALL
         SELECT picked.lane, picked.jobs, picked.siblings, picked.place, picked.turn + 1, next.priority, next.seq
         FROM picked CROSS JOIN jobs AS next ON next.seq = (
             SELECT seq FROM jobs WHERE jobs.lane = picked.lane AND lease_token IS NULL
                 AND (jobs.priority, jobs.seq) > (picked.priority, picked.seq)
             ORDER BY priority, seq LIMIT 1
         ) WHERE picked.turn < picked.jobs
     )
     UPDATE jobs SET lease_token = $1, claims = claims + 1
     WHERE seq IN (SELECT seq FROM picked ORDER BY (turn - 1) * siblings + place LIMIT $2)
     RETURNING id, lane, priority, seq, owner, subject, claims, rescues, trace";

static COUNT: Template = Template::new(
    "UPDATE lanes SET running = running + input.jobs, rate_next_us = {rate_next}, holder = {holder_then},
         full_at = CASE WHEN input.is_full THEN {now} ELSE full_at END,
         shut_until = CASE WHEN {rate_for_then} > {worth_shutting} THEN {now} + {rate_for_then} END
     FROM input WHERE lanes.id = input.id
     RETURNING id, {rate_for} AS rate_for",
    &[
        LANE_RULES,
        &[("moment", "{now}"), ("taken", "input.jobs"), ("running_before", "running"), ("worker", "$1")],
        SHUT,
    ],
);

static KEEP: Template =
    Template::new("INSERT INTO claims (token, lease_until, lanes) VALUES ($1, {now} + $2, $3)", &[]);

/// A lane as a claim sees it.
struct LookedAt {
    id: LaneId,
    owner: String,
    ready: bool,
    closed_for: i64,
    at_limit: bool,
    open: bool,
    /// How many jobs it allows, and how many may run beside those that do.
    room: i64,
    free: i64,
    may_run: i64,
}

impl LookedAt {
    fn read(row: &QueryResult) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: LaneId(column(row, "id")?),
            owner: column(row, "owner")?,
            ready: column(row, "ready")?,
            closed_for: column(row, "closed_for")?,
            at_limit: column(row, "at_limit")?,
            open: column(row, "open")?,
            room: column(row, "room")?,
            free: column(row, "free")?,
            may_run: column(row, "may_run")?,
        })
    }

    /// What becomes of a lane from which nothing is taken.
    fn fate(&self) -> Fate {
        if !self.ready {
            Fate::Nothing
        } else if self.closed_for > 0 {
            Fate::Closed(duration(self.closed_for))
        } else if self.at_limit {
            Fate::Full
        } else {
            Fate::NotReached
        }
    }
}

/// Claims jobs of these lanes.
pub(super) async fn take(
    turns: &Turns,
    database: &Database,
    claim: &Claim,
    lanes: &[LaneId],
) -> Result<Taken, DatabaseError> {
    let transaction = database.begin().await?;
    let looked = look(&transaction, claim, lanes).await?;
    let is_open = |lane: &&LookedAt| lane.open && lane.ready && !claim.skip_owners.contains(&lane.owner);
    let open = looked.iter().filter(is_open).take(claim.max as usize);
    let open: Vec<&LookedAt> = open.collect();
    let mut fates: HashMap<LaneId, Fate> = looked.iter().map(|lane| (lane.id, lane.fate())).collect();
    let limits = looked.iter().filter(|_| claim.worker.is_some());
    let limits = limits.map(|lane| (lane.id, u32::try_from(lane.may_run).unwrap_or(1))).collect();
    let mut blocked = looked.iter().any(|lane| lane.fate() == Fate::Full);
    let mut jobs = Vec::new();
    if !open.is_empty() {
        let shares = shares(&open, claim.max);
        jobs = update(&transaction, claim, &open, &shares).await?;
        let mut taken: HashMap<LaneId, i64> = HashMap::new();
        for job in &jobs {
            *taken.entry(job.lease.lane).or_default() += 1;
        }
        let closed = count(&transaction, claim, &open, &taken).await?;
        if !jobs.is_empty() {
            keep(&transaction, claim, taken.keys().copied().collect()).await?;
        }
        let all_taken = jobs.len() >= claim.max as usize;
        for (lane, share) in open.iter().zip(&shares) {
            let taken = taken.get(&lane.id).copied().unwrap_or(0);
            let closed_for = closed.get(&lane.id).copied().unwrap_or(0);
            let is_full = taken >= lane.free;
            blocked |= is_full;
            let fate = if closed_for > 0 {
                Fate::Closed(duration(closed_for))
            } else if is_full {
                Fate::Full
            } else if all_taken && taken + 1 == share.jobs {
                // In the last turn there was no room for all lanes.
                Fate::More
            } else if taken < lane.room.min(share.jobs) {
                Fate::Nothing
            } else {
                Fate::More
            };
            fates.insert(lane.id, fate);
        }
    }
    transaction.commit().await?;
    let mut owners: HashMap<LaneId, String> = looked.into_iter().map(|lane| (lane.id, lane.owner)).collect();
    let mut read = |lane: &LaneId| owners.remove(lane).zip(fates.get(lane).copied());
    let looked: Vec<Looked> = lanes.iter().map(|lane| Looked::read(*lane, read(lane))).collect();
    let left = turns.looked(&looked, jobs.len());
    Ok(Taken { jobs: in_turn(jobs), left, blocked, limits })
}

/// How much of a claim a lane gets.
struct Share {
    jobs: i64,
    /// How many lanes its owner has in the claim, and its place among them.
    siblings: i64,
    place: i64,
}

/// An equal part for each lane of what its owner gets, which is an equal part of the whole.
fn shares(open: &[&LookedAt], max: u32) -> Vec<Share> {
    let mut siblings: HashMap<&str, i64> = HashMap::new();
    let places: Vec<i64> = open
        .iter()
        .map(|lane| {
            let place = siblings.entry(&lane.owner).or_default();
            *place += 1;
            *place
        })
        .collect();
    let owners = i64::try_from(siblings.len()).unwrap_or(i64::MAX);
    let of_owner = (i64::from(max) + owners - 1) / owners;
    let share = |(lane, place): (&&LookedAt, i64)| {
        let siblings = siblings.get(lane.owner.as_str()).copied().unwrap_or(1);
        Share { jobs: (of_owner + siblings - 1) / siblings, siblings, place }
    };
    open.iter().zip(places).map(share).collect()
}

/// Reads the lanes, in turn.
async fn look(
    transaction: &Transaction,
    claim: &Claim,
    lanes: &[LaneId],
) -> Result<Vec<LookedAt>, DatabaseError> {
    let mut input = Batch::new(GIVEN);
    for lane in lanes {
        input.push([lane.0.into(), claim.ahead_in(*lane).into()]);
    }
    let own: [Value; 3] = [
        integer(claim.lane_concurrency.get()).into(),
        i64::from(u32::MAX).into(),
        claim.worker.map(|worker| worker.0).into(),
    ];
    let rows = input.query(transaction, LOOK.on(Dialect::Sqlite), own).await?;
    rows.iter().map(LookedAt::read).collect()
}

async fn update(
    transaction: &Transaction,
    claim: &Claim,
    open: &[&LookedAt],
    shares: &[Share],
) -> Result<Vec<ClaimedJob>, DatabaseError> {
    let mut input = Batch::new(WANTED);
    for (lane, share) in open.iter().zip(shares) {
        let jobs = lane.room.min(share.jobs);
        if jobs > 0 {
            input.push([lane.id.0.into(), jobs.into(), share.siblings.into(), share.place.into()]);
        }
    }
    let own: [Value; 2] = [claim.token.0.into(), i64::from(claim.max).into()];
    let rows = input.query(transaction, TAKE, own).await?;
    rows.iter().map(|row| claimed_job(row, claim.token)).collect()
}

/// Counts what was taken. Returns for how many milliseconds the rates of lanes allow no more.
async fn count(
    transaction: &Transaction,
    claim: &Claim,
    open: &[&LookedAt],
    taken: &HashMap<LaneId, i64>,
) -> Result<HashMap<LaneId, i64>, DatabaseError> {
    let mut input = Batch::new(COUNTED);
    for lane in open {
        if let Some(jobs) = taken.get(&lane.id) {
            input.push([lane.id.0.into(), (*jobs).into(), (*jobs >= lane.room).into()]);
        }
    }
    let rows = input
        .query(transaction, COUNT.on(Dialect::Sqlite), [claim.worker.map(|worker| worker.0).into()])
        .await?;
    rows.iter().map(|row| Ok((LaneId(column(row, "id")?), column(row, "rate_for")?))).collect()
}

async fn keep(transaction: &Transaction, claim: &Claim, lanes: HashSet<LaneId>) -> Result<(), DatabaseError> {
    let values: [Value; 3] =
        [claim.token.0.into(), millis(claim.lease).into(), super::lane_list(lanes).into()];
    execute(transaction, KEEP.on(Dialect::Sqlite), values).await?;
    let mut input = Batch::new(LANE);
    for token in &claim.ended {
        input.push([token.0.into()]);
    }
    let sql = "DELETE FROM claims WHERE token IN (SELECT id FROM input)";
    input.execute(transaction, sql, []).await.map(drop)
}

/// Reads the lanes that a claim names.
pub(super) fn lanes_of(list: &[u8]) -> Vec<Uuid> {
    list.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok()).collect()
}
