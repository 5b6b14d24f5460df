//! Claiming on SQLite: the same walk from lane to lane, step by step.
//!
//! A statement costs microseconds in the same process, and the write lock that the transaction
//! takes at once makes the lanes' limits exact.

use std::sync::{Mutex, PoisonError};

use postrider_database::Database;
use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use super::query;
use crate::enqueue::{clamp, millis};
use crate::error::QueueError;
use crate::job::{Claim, Claimed, ClaimedJob};
use crate::row::{claimed_job, column, span};
use crate::transactional::commit;

/// Where the next walk starts: after this lane.
#[derive(Debug, Default)]
pub(super) struct Walk {
    after: Mutex<Uuid>,
}

/// How many lanes a claim looks at beyond those it can serve: what it holds the write lock for.
const LOOK_AHEAD: usize = 4096;

/// A lane as a claim sees it.
struct Lane {
    id: Uuid,
    room: i64,
    paused_for: i64,
    rate_for: i64,
    at_limit: bool,
}

impl Walk {
    pub(super) async fn claim(&self, database: &Database, claim: &Claim) -> Result<Claimed, QueueError> {
        // To find nothing must cost no write.
        if query(database.connection(), "SELECT 1 FROM jobs WHERE state = 0 LIMIT 1", []).await?.is_empty() {
            return Ok(Claimed::default());
        }
        let start = *self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.begin().await?;
        let (claimed, next_start) = take(&transaction, claim, start).await?;
        commit(transaction).await?;
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = next_start;
        Ok(claimed)
    }
}

async fn take(
    transaction: &DatabaseTransaction,
    claim: &Claim,
    start: Uuid,
) -> Result<(Claimed, Uuid), QueueError> {
    let mut claimed = Claimed::default();
    let mut lanes = Vec::new();
    let mut opens_in: Option<i64> = None;
    let mut after = start;
    let mut wrapped = start.is_nil();
    let mut reached_end = false;
    let mut over_paused = false;
    for _ in 0..claim.max as usize + LOOK_AHEAD {
        let Some(lane) = next_lane(transaction, claim, after, over_paused).await? else {
            if wrapped {
                reached_end = true;
                break;
            }
            (after, wrapped, over_paused) = (Uuid::nil(), true, false);
            continue;
        };
        (after, over_paused) = (lane.id, lane.paused_for > 0);
        if wrapped && !start.is_nil() && lane.id > start {
            reached_end = true;
            break;
        }
        if claim.skip.iter().any(|skipped| skipped.0 == lane.id) {
            continue;
        }
        claimed.blocked |= lane.at_limit;
        let closed_for = lane.paused_for.max(lane.rate_for);
        if closed_for > 0 {
            opens_in = Some(opens_in.map_or(closed_for, |soonest| soonest.min(closed_for)));
        } else if !lane.at_limit {
            lanes.push(lane);
            if lanes.len() >= claim.max as usize {
                break;
            }
        }
    }
    // If nothing allows anything, the next claim goes on from there, but need not come at once.
    claimed.more = !reached_end && !lanes.is_empty();

    // No more lanes than room, so that each has a share; what one leaves goes to those after it.
    let mut turns: Vec<Vec<ClaimedJob>> = Vec::new();
    let mut left = i64::from(claim.max);
    for (place, lane) in lanes.iter().enumerate() {
        let to_come = i64::try_from(lanes.len() - place).unwrap_or(i64::MAX);
        let share = (left + to_come - 1) / to_come;
        let wanted = lane.room.min(share);
        let (jobs, rate_for) = take_from(transaction, claim, lane, wanted).await?;
        if rate_for > 0 {
            opens_in = Some(opens_in.map_or(rate_for, |soonest| soonest.min(rate_for)));
        }
        let taken = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
        left -= taken;
        claimed.blocked |= taken > 0 && taken == lane.room;
        claimed.more |= taken > 0 && taken == wanted && wanted < lane.room;
        for (turn, job) in jobs.into_iter().enumerate() {
            if turns.len() <= turn {
                turns.push(Vec::new());
            }
            turns[turn].push(job);
        }
    }
    claimed.opens_in = opens_in.map(span);
    claimed.jobs = turns.into_iter().flatten().collect();
    Ok((claimed, if reached_end { Uuid::nil() } else { after }))
}

/// The next lane with ready jobs; from a paused one on, the next that is not paused either.
async fn next_lane(
    transaction: &DatabaseTransaction,
    claim: &Claim,
    after: Uuid,
    over_paused: bool,
) -> Result<Option<Lane>, QueueError> {
    const SQL: &str = "WITH clock(now) AS (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)) \
        SELECT id, paused_until - now AS paused_for, \
            CASE WHEN rate_interval_us IS NULL THEN 0 \
                 ELSE (rate_next_us - now * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for, \
            min(CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $2) END - running, \
                CASE WHEN rate_interval_us IS NULL THEN $3 \
                     ELSE (now * 1000 + rate_burst * rate_interval_us - max(rate_next_us, now * 1000)) / rate_interval_us END \
            ) AS room, \
            running >= CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, $2) END AS at_limit \
        FROM lanes, clock \
        WHERE id = CASE WHEN $4 THEN ( \
                SELECT lane FROM jobs WHERE state = 0 AND lane >= ( \
                    SELECT open.id FROM lanes AS open WHERE open.id > $1 AND open.paused_until <= now ORDER BY open.id LIMIT 1 \
                ) ORDER BY lane LIMIT 1 \
            ) ELSE (SELECT lane FROM jobs WHERE state = 0 AND lane > $1 ORDER BY lane LIMIT 1) END";
    let values: [Value; 4] = [
        after.into(),
        clamp(claim.lane_concurrency.get()).into(),
        i64::from(u32::MAX).into(),
        over_paused.into(),
    ];
    let rows = query(transaction, SQL, values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Lane {
        id: column(row, "id")?,
        room: column(row, "room")?,
        paused_for: column(row, "paused_for")?,
        rate_for: column(row, "rate_for")?,
        at_limit: column::<i64>(row, "at_limit")? != 0,
    }))
}

/// The jobs, and how long the lane's rate then keeps it closed.
async fn take_from(
    transaction: &DatabaseTransaction,
    claim: &Claim,
    lane: &Lane,
    wanted: i64,
) -> Result<(Vec<ClaimedJob>, i64), QueueError> {
    const TAKE: &str = "UPDATE jobs SET state = 3, lease_token = $3, claims = claims + 1, \
            lease_until = CAST(unixepoch('subsec') * 1000 AS INTEGER) + $4 \
        WHERE seq IN (SELECT seq FROM jobs WHERE state = 0 AND lane = $1 ORDER BY priority, seq LIMIT $2) \
        RETURNING id, lane, subject, claims, rescues, trace, priority, seq";
    const COUNT: &str = "UPDATE lanes SET running = running + $2, \
            rate_next_us = CASE WHEN rate_interval_us IS NULL THEN rate_next_us \
                ELSE max(rate_next_us, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000) + $2 * rate_interval_us END, \
            full_at = CASE WHEN $3 THEN CAST(unixepoch('subsec') * 1000 AS INTEGER) ELSE full_at END \
        WHERE id = $1 \
        RETURNING CASE WHEN rate_interval_us IS NULL THEN 0 \
            ELSE (rate_next_us - CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000 \
                - (rate_burst - 1) * rate_interval_us + 999) / 1000 END AS rate_for";
    if wanted <= 0 {
        return Ok((Vec::new(), 0));
    }
    let values: [Value; 4] =
        [lane.id.into(), wanted.into(), claim.token.0.into(), millis(claim.lease).into()];
    let rows = query(transaction, TAKE, values).await?;
    // RETURNING keeps no order (SQLite's manual, "RETURNING", §2.2).
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let place: (i64, i64) = (column(row, "priority")?, column(row, "seq")?);
        jobs.push((place, claimed_job(row, claim.token)?));
    }
    jobs.sort_by_key(|(place, _)| *place);
    let taken = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
    let counted =
        query(transaction, COUNT, [lane.id.into(), taken.into(), (taken >= lane.room).into()]).await?;
    let rate_for = counted.first().map_or(Ok(0), |row| column(row, "rate_for"))?;
    Ok((jobs.into_iter().map(|(_, job)| job).collect(), rate_for))
}
