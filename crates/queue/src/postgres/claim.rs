//! Claiming: a walk from lane to lane, and a fair share of each.
//!
//! The walk is a loose index scan (PostgreSQL's wiki, "Loose indexscan"): a recursive query that asks
//! the index of ready jobs for the next lane after the last, so that a lane with a million jobs
//! costs as much as one with a single job. From a lane that is shut it goes on with the next one that
//! is not, so that any number of paused lanes between two open ones costs as much as one. Lanes that
//! allow nothing now are passed over; the others are locked for the length of the statement, which
//! makes their limits exact over all workers. A lane that another worker has locked is passed over
//! too, and the claim says that there is more.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::enqueue::millis;
use crate::error::QueueError;
use crate::job::{Claim, Claimed, ClaimedJob, LaneId, LeaseToken};
use crate::row::{claimed_job, column, span};

/// How many lanes a claim looks at beyond those it can serve.
const LOOK_AHEAD: i64 = 256;

/// Goes round all lanes, claim by claim.
#[derive(Debug, Default)]
pub(super) struct Walk {
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The next claim starts after this lane.
    after: Uuid,
    /// Since here no claim has found anything; when the walk has come round to it, there is nothing.
    dry_since: Option<Uuid>,
}

impl Walk {
    pub(super) async fn claim(&self, database: &Database, claim: &Claim) -> Result<Claimed, QueueError> {
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
    /// The nil id if it came to the end.
    next_start: Uuid,
    /// Some lane was another worker's.
    contended: bool,
}

impl Step {
    /// Whether this step, which began after `start`, ends a round of the walk in which nothing was found.
    fn ends_round(&self, start: Uuid, dry_since: &mut Option<Uuid>) -> bool {
        if !self.claimed.jobs.is_empty() {
            *dry_since = None;
            return false;
        }
        let since = *dry_since.get_or_insert(start);
        let came_to_end = self.next_start.is_nil();
        // Beyond the end it goes on from the beginning, up to where it was dry before.
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

async fn take(database: &Database, claim: &Claim, start: Uuid) -> Result<Step, QueueError> {
    let values: [Value; 7] = [
        start.into(),
        (i64::from(claim.max) + LOOK_AHEAD).into(),
        claim.skip.iter().map(|lane| lane.0).collect::<Vec<Uuid>>().into(),
        i64::from(claim.max).into(),
        claim.token.0.into(),
        millis(claim.lease).into(),
        crate::enqueue::clamp(claim.lane_concurrency.get()).into(),
    ];
    let connection = database.dedicated();
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), CLAIM, values);
    let rows = connection.query_all_raw(statement).await.map_err(DatabaseError::from)?;
    let Some(first) = rows.first() else {
        return Ok(Step { claimed: Claimed::default(), next_start: Uuid::nil(), contended: false });
    };
    let seen = Seen::read(first)?;

    let jobs = in_turn(&rows, claim.token)?;

    let served: HashSet<LaneId> = jobs.iter().map(|job| job.lane).collect();
    let full = jobs.len() as u64 >= u64::from(claim.max);
    let next_start = if full && i64::try_from(served.len()).is_ok_and(|served| served < seen.open) {
        // There was no room for all lanes: those after the last one served come first next time.
        served.iter().map(|lane| lane.0).max().unwrap_or_default()
    } else if seen.reached_end {
        Uuid::nil()
    } else {
        seen.last_lane.unwrap_or_default()
    };
    let contended = seen.locked < seen.open;
    let more = full || contended || seen.cut || !seen.reached_end;
    let claimed = Claimed { jobs, more, blocked: seen.blocked, opens_in: seen.opens_in.map(span) };
    Ok(Step { claimed, next_start, contended })
}

/// The first job of each lane, then the second of each, and so on.
fn in_turn(rows: &[QueryResult], token: LeaseToken) -> Result<Vec<ClaimedJob>, QueueError> {
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

/// What the walk saw of the lanes.
struct Seen {
    /// Lanes that allowed something, and those of them that no other worker had locked.
    open: i64,
    locked: i64,
    /// Some lane had more than its share of this claim.
    cut: bool,
    /// Some lane has all the jobs running that it may.
    blocked: bool,
    reached_end: bool,
    last_lane: Option<Uuid>,
    opens_in: Option<i64>,
}

impl Seen {
    fn read(row: &QueryResult) -> Result<Self, QueueError> {
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

/// `$1` where to start, `$2` how many lanes to look at, `$3` lanes to skip, `$4` how many jobs,
/// `$5` the token, `$6` the lease, `$7` the concurrency of lanes that have none of their own.
///
/// - `due` are lanes whose pause is over and whom nobody has opened yet; there are few, if any.
/// - `looked` reads the lanes' state without locks; `locked` locks those that are open and, since a
///   locked row is read in its newest version, judges them anew.
/// - `picked` must be `MATERIALIZED`, or the planner may run it again and take more than the limit.
/// - Jobs are picked with `SKIP LOCKED`: a job that another transaction holds is none of ours.
/// - Picked jobs are taken by where they are, which costs no index. One that was changed since the statement began
///   has moved, and is left for the next claim: what was taken, not what was picked, is counted against the lane.
/// - Tables are looked up row by row, by an array, or by a range of one; they are never joined. Plans are kept, and one
///   made when a table was all but empty would join with all of it when it no longer is.
/// - The rate is a generic cell rate algorithm: `rate_next_us` is when the next job would be due if
///   jobs came at the full rate; a job conforms if that is less than `burst` intervals ahead.
const CLAIM: &str = "
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), due AS MATERIALIZED (
    SELECT id FROM lanes WHERE shut AND paused_until <= (SELECT now FROM clock)
), walk(lane, step) AS (
    (SELECT lane, 1::bigint FROM jobs WHERE state = 0 AND lane > $1 ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT CASE WHEN (SELECT shut FROM lanes WHERE lanes.id = walk.lane) THEN (
        SELECT jobs.lane FROM jobs WHERE state = 0 AND jobs.lane >= LEAST(
            (SELECT lanes.id FROM lanes WHERE NOT shut AND lanes.id > walk.lane ORDER BY lanes.id LIMIT 1),
            (SELECT due.id FROM due WHERE due.id > walk.lane ORDER BY due.id LIMIT 1)
        ) ORDER BY jobs.lane LIMIT 1
    ) ELSE (
        SELECT jobs.lane FROM jobs WHERE state = 0 AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1
    ) END, step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < $2
), looked AS MATERIALIZED (
    SELECT *, paused_for <= 0 AND rate_for <= 0 AND NOT at_limit AS open FROM (
        SELECT lanes.id,
            paused_until - now AS paused_for,
            CASE WHEN rate_interval_us IS NULL THEN 0
                 ELSE (rate_next_us - now * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for,
            running >= CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $7) END AS at_limit
        FROM walk CROSS JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = walk.lane LIMIT 1) AS lanes CROSS JOIN clock
        WHERE lanes.id <> ALL ($3::uuid[])
    ) AS lane
), locked AS MATERIALIZED (
    SELECT lanes.id,
        LEAST(
            CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $7) END - running,
            CASE WHEN rate_interval_us IS NULL THEN $4
                 ELSE (now * 1000 + rate_burst * rate_interval_us - GREATEST(rate_next_us, now * 1000)) / rate_interval_us END
        ) AS room,
        running AS running_before,
        CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $7) END AS allowed
    FROM lanes CROSS JOIN clock
    WHERE lanes.id = ANY (ARRAY(SELECT id FROM looked WHERE open ORDER BY id LIMIT $4)) AND paused_until <= now
    FOR UPDATE OF lanes SKIP LOCKED
), share AS MATERIALIZED (
    SELECT count(*) AS lanes, ($4 + count(*) - 1) / GREATEST(count(*), 1) AS most FROM locked
), picked AS MATERIALIZED (
    SELECT mine.place FROM locked CROSS JOIN share CROSS JOIN LATERAL (
        SELECT ready.place, row_number() OVER () AS turn FROM (
            SELECT jobs.ctid AS place FROM jobs WHERE state = 0 AND jobs.lane = locked.id
            ORDER BY priority, seq
            LIMIT GREATEST(LEAST(locked.room, share.most), 0)
            FOR UPDATE SKIP LOCKED
        ) AS ready
    ) AS mine
    ORDER BY mine.turn LIMIT $4
), taken AS (
    UPDATE jobs SET state = 3, lease_token = $5, lease_until = now + $6, claims = claims + 1
    FROM clock WHERE jobs.ctid = ANY (ARRAY(SELECT place FROM picked))
    RETURNING jobs.id, jobs.lane, jobs.subject, jobs.claims, jobs.rescues, jobs.trace, jobs.priority, jobs.seq
), tally AS MATERIALIZED (
    SELECT lane, count(*)::integer AS jobs FROM taken GROUP BY lane
), counted AS (
    UPDATE lanes SET running = running + tally.jobs,
        full_at = CASE WHEN running_before + tally.jobs >= allowed
                            OR rate_interval_us IS NOT NULL AND tally.jobs >= room THEN now ELSE full_at END,
        rate_next_us = CASE WHEN rate_interval_us IS NULL THEN rate_next_us
                            ELSE GREATEST(rate_next_us, now * 1000) + tally.jobs * rate_interval_us END
    FROM tally JOIN locked ON locked.id = tally.lane CROSS JOIN share CROSS JOIN clock
    WHERE lanes.id BETWEEN tally.lane AND tally.lane
    RETURNING
        tally.jobs >= share.most AND room > share.most AS cut,
        running_before + tally.jobs >= allowed AS at_limit,
        CASE WHEN rate_interval_us IS NULL THEN 0
             ELSE (rate_next_us - now * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for
), summary AS (
    SELECT
        seen.open AS open_lanes,
        share.lanes AS locked_lanes,
        coalesce(served.cut, false) AS cut,
        coalesce(seen.at_limit, false) OR coalesce(served.at_limit, false) AS blocked,
        walked.lanes < $2 AS reached_end,
        walked.last_lane,
        LEAST(seen.paused_for, seen.rate_for, served.rate_for,
              (SELECT paused_until FROM lanes WHERE shut AND paused_until > (SELECT now FROM clock)
               ORDER BY paused_until LIMIT 1) - (SELECT now FROM clock)) AS opens_in
    FROM share CROSS JOIN (
        SELECT count(*) FILTER (WHERE open) AS open, bool_or(at_limit) AS at_limit,
            min(paused_for) FILTER (WHERE paused_for > 0) AS paused_for,
            min(rate_for) FILTER (WHERE rate_for > 0) AS rate_for
        FROM looked
    ) AS seen CROSS JOIN (
        SELECT bool_or(cut) AS cut, bool_or(at_limit) AS at_limit,
            min(rate_for) FILTER (WHERE rate_for > 0) AS rate_for
        FROM counted
    ) AS served CROSS JOIN (
        SELECT count(lane) AS lanes,
            (array_agg(lane ORDER BY step DESC) FILTER (WHERE lane IS NOT NULL))[1] AS last_lane
        FROM walk
    ) AS walked
)
SELECT summary.*, taken.* FROM summary LEFT JOIN taken ON true";
