//! Claiming: a walk from lane to lane, and a fair share of each.
//!
//! The walk is a loose index scan (PostgreSQL's wiki, "Loose indexscan"): a recursive query that asks
//! the index of ready jobs for the next lane after the last, so that a lane with a million jobs
//! costs as much as one with a single job. Lanes that allow nothing now are passed over; the others
//! are locked for the length of the statement, which makes their limits exact over all workers. A
//! lane that another worker has locked is passed over too, and the claim says that there is more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::enqueue::millis;
use crate::job::{Claim, Claimed, ClaimedJob, LaneId};
use crate::queue::QueueError;
use crate::row::{claimed_job, column, span};

/// How many lanes a claim looks at beyond those it can serve.
const LOOK_AHEAD: i64 = 256;

/// Where the next walk starts: after this lane.
#[derive(Debug, Default)]
pub(super) struct Walk {
    after: Mutex<Uuid>,
}

impl Walk {
    pub(super) async fn claim(&self, database: &Database, claim: &Claim) -> Result<Claimed, QueueError> {
        let start = *self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let mut step = take(database, claim, start).await?;
        if step.claimed.jobs.is_empty() && !start.is_nil() {
            step = take(database, claim, Uuid::nil()).await?;
        }
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = step.next_start;
        Ok(step.claimed)
    }
}

struct Step {
    claimed: Claimed,
    next_start: Uuid,
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
    let connection = database.connection();
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), CLAIM, values);
    let rows = connection.query_all_raw(statement).await.map_err(DatabaseError::from)?;
    let Some(first) = rows.first() else {
        return Ok(Step { claimed: Claimed::default(), next_start: Uuid::nil() });
    };
    let seen = Seen::read(first)?;

    let mut jobs: Vec<(i64, ClaimedJob)> = Vec::with_capacity(rows.len());
    for row in &rows {
        if column::<Option<Uuid>>(row, "id")?.is_some() {
            jobs.push((column(row, "turn")?, claimed_job(row, claim.token)?));
        }
    }
    jobs.sort_by_key(|(turn, _)| *turn);
    let jobs: Vec<ClaimedJob> = jobs.into_iter().map(|(_, job)| job).collect();

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
    let more = full || seen.locked < seen.open || seen.cut || !seen.reached_end;
    let claimed = Claimed { jobs, more, blocked: seen.blocked, opens_in: seen.opens_in.map(span) };
    Ok(Step { claimed, next_start })
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
/// - `looked` reads the lanes' state without locks; `locked` locks those that are open and, since a
///   locked row is read in its newest version, judges them anew.
/// - `picked` must be `MATERIALIZED`, or the planner may run it again and take more than the limit.
/// - Jobs are picked with `SKIP LOCKED`: a job that another transaction holds is none of ours.
/// - What was taken, not what was picked, is counted against the lane.
/// - Jobs are named by an array, never joined: plans are kept, and one made when the table was all but empty would
///   join with all of it when it no longer is.
/// - The rate is a generic cell rate algorithm: `rate_next_us` is when the next job would be due if
///   jobs came at the full rate; a job conforms if that is less than `burst` intervals ahead.
const CLAIM: &str = "
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), walk(lane, step) AS (
    (SELECT lane, 1::bigint FROM jobs WHERE state = 0 AND lane > $1 ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT jobs.lane FROM jobs WHERE state = 0 AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1), step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < $2
), looked AS MATERIALIZED (
    SELECT lanes.id,
        paused_until - now AS paused_for,
        CASE WHEN rate_interval_us IS NULL THEN 0
             ELSE (rate_next_us - now * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for,
        running >= CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $7) END AS at_limit
    FROM walk JOIN lanes ON lanes.id = walk.lane CROSS JOIN clock
    WHERE lanes.id <> ALL ($3::uuid[])
), open AS MATERIALIZED (
    SELECT id FROM looked WHERE paused_for <= 0 AND rate_for <= 0 AND NOT at_limit
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
    WHERE lanes.id IN (SELECT id FROM open ORDER BY id LIMIT $4) AND paused_until <= now
    FOR UPDATE OF lanes SKIP LOCKED
), share AS MATERIALIZED (
    SELECT ($4 + count(*) - 1) / GREATEST(count(*), 1) AS most FROM locked
), picked AS MATERIALIZED (
    SELECT mine.id, mine.turn FROM locked CROSS JOIN share CROSS JOIN LATERAL (
        SELECT ready.id, row_number() OVER () AS turn FROM (
            SELECT jobs.id FROM jobs WHERE state = 0 AND jobs.lane = locked.id
            ORDER BY priority, seq
            LIMIT GREATEST(LEAST(locked.room, share.most), 0)
            FOR UPDATE SKIP LOCKED
        ) AS ready
    ) AS mine
    ORDER BY mine.turn LIMIT $4
), taken AS (
    UPDATE jobs SET state = 3, lease_token = $5, lease_until = now + $6, claims = claims + 1
    FROM clock WHERE jobs.id = ANY (ARRAY(SELECT id FROM picked))
    RETURNING jobs.id, jobs.lane, jobs.subject, jobs.claims, jobs.rescues, jobs.trace
), tally AS MATERIALIZED (
    SELECT lane, count(*)::integer AS jobs FROM taken GROUP BY lane
), counted AS (
    UPDATE lanes SET running = running + tally.jobs,
        full_at = CASE WHEN running_before + tally.jobs >= allowed
                            OR rate_interval_us IS NOT NULL AND tally.jobs >= room THEN now ELSE full_at END,
        rate_next_us = CASE WHEN rate_interval_us IS NULL THEN rate_next_us
                            ELSE GREATEST(rate_next_us, now * 1000) + tally.jobs * rate_interval_us END
    FROM tally JOIN locked ON locked.id = tally.lane CROSS JOIN clock WHERE lanes.id = tally.lane
    RETURNING CASE WHEN rate_interval_us IS NULL THEN 0
                   ELSE (rate_next_us - now * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for
), summary AS (
    SELECT
        (SELECT count(*) FROM open) AS open_lanes,
        (SELECT count(*) FROM locked) AS locked_lanes,
        EXISTS (SELECT 1 FROM locked JOIN tally ON tally.lane = locked.id CROSS JOIN share
                WHERE tally.jobs >= share.most AND locked.room > share.most) AS cut,
        EXISTS (SELECT 1 FROM looked WHERE at_limit)
            OR EXISTS (SELECT 1 FROM locked JOIN tally ON tally.lane = locked.id
                       WHERE locked.running_before + tally.jobs >= locked.allowed) AS blocked,
        (SELECT count(*) < $2 FROM walk WHERE lane IS NOT NULL) AS reached_end,
        (SELECT lane FROM walk WHERE lane IS NOT NULL ORDER BY step DESC LIMIT 1) AS last_lane,
        LEAST((SELECT min(paused_for) FROM looked WHERE paused_for > 0),
              (SELECT min(rate_for) FROM looked WHERE rate_for > 0),
              (SELECT min(rate_for) FROM counted WHERE rate_for > 0)) AS opens_in
)
SELECT summary.*, mine.* FROM summary
LEFT JOIN (SELECT taken.*, picked.turn FROM taken JOIN picked ON picked.id = taken.id) AS mine ON true";
