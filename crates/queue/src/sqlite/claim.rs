//! Claiming on SQLite: the same walk from lane to lane, step by step.
//!
//! A statement costs microseconds in the same process, and the transaction takes the write lock when it begins, which
//! makes the lanes' limits exact.

use std::sync::{Mutex, PoisonError};

use postrider_database::sql::{Template, column, query_all, query_one};
use postrider_database::{Database, DatabaseError, Dialect, Transaction};
use sea_orm::Value;
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::{Claim, Claimed, ClaimedJob};
use crate::tables::{LANE_RULES, STATES, claimed_job, duration, integer, millis};
use crate::transactional::commit;

static ANY_READY: Template = Template::new("SELECT 1 FROM jobs WHERE state = {ready} LIMIT 1", &[STATES]);

static NEXT_LANE: Template = Template::new(
    include_str!("next_lane.sql"),
    &[LANE_RULES, &[("moment", "now"), ("default_concurrency", "$2"), ("unlimited", "$3")], STATES],
);

static TAKE: Template = Template::new(
    "UPDATE jobs SET state = {running}, lease_token = $3, claims = claims + 1, lease_until = {now} + $4
     WHERE seq IN (SELECT seq FROM jobs WHERE state = {ready} AND lane = $1 ORDER BY priority, seq LIMIT $2)
     RETURNING id, lane, subject, claims, rescues, trace, priority, seq",
    &[STATES],
);

static COUNT: Template = Template::new(
    "UPDATE lanes SET running = running + $2, rate_next_us = {rate_next},
         full_at = CASE WHEN $3 THEN {now} ELSE full_at END
     WHERE id = $1
     RETURNING {rate_for} AS rate_for",
    &[LANE_RULES, &[("moment", "{now}"), ("taken", "$2")]],
);

/// Visits all lanes in turn, some in each claim.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The next claim starts after this lane.
    after: Mutex<Uuid>,
}

/// How many lanes a claim visits beyond those it can serve, which bounds how long it holds the write lock.
const LOOK_AHEAD: usize = 4096;

/// A lane as a claim sees it.
struct Lane {
    id: Uuid,
    room: i64,
    paused_for: i64,
    rate_for: i64,
    /// A job may be claimed now.
    open: bool,
    /// It runs as many jobs as it may.
    at_limit: bool,
}

impl Walk {
    pub(super) async fn claim(&self, database: &Database, claim: &Claim) -> Result<Claimed, QueueError> {
        // Finding nothing must not cost a write.
        if query_one(database.connection(), ANY_READY.on(Dialect::Sqlite), []).await?.is_none() {
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
    transaction: &Transaction,
    claim: &Claim,
    start: Uuid,
) -> Result<(Claimed, Uuid), DatabaseError> {
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
        } else if lane.open {
            lanes.push(lane);
            if lanes.len() >= claim.max as usize {
                break;
            }
        }
    }
    // If no lane allows anything, the next claim continues from here, but need not come at once.
    claimed.more = !reached_end && !lanes.is_empty();

    // There are no more lanes than room, so each has a share. What one lane leaves goes to those after it.
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
    claimed.opens_in = opens_in.map(duration);
    claimed.jobs = turns.into_iter().flatten().collect();
    Ok((claimed, if reached_end { Uuid::nil() } else { after }))
}

/// Finds the next lane with ready jobs; after a paused lane, the next one that is not paused either.
async fn next_lane(
    transaction: &Transaction,
    claim: &Claim,
    after: Uuid,
    over_paused: bool,
) -> Result<Option<Lane>, DatabaseError> {
    let values: [Value; 4] = [
        after.into(),
        integer(claim.lane_concurrency.get()).into(),
        i64::from(u32::MAX).into(),
        over_paused.into(),
    ];
    let row = query_one(transaction, NEXT_LANE.on(Dialect::Sqlite), values).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Lane {
        id: column(&row, "id")?,
        room: column(&row, "room")?,
        paused_for: column(&row, "paused_for")?,
        rate_for: column(&row, "rate_for")?,
        open: column(&row, "open")?,
        at_limit: column(&row, "at_limit")?,
    }))
}

/// Returns the jobs, and for how many milliseconds the lane's rate allows no more.
async fn take_from(
    transaction: &Transaction,
    claim: &Claim,
    lane: &Lane,
    wanted: i64,
) -> Result<(Vec<ClaimedJob>, i64), DatabaseError> {
    if wanted <= 0 {
        return Ok((Vec::new(), 0));
    }
    let values: [Value; 4] =
        [lane.id.into(), wanted.into(), claim.token.0.into(), millis(claim.lease).into()];
    let rows = query_all(transaction, TAKE.on(Dialect::Sqlite), values).await?;
    // RETURNING has no order (SQLite's manual, "RETURNING", §2.2).
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let place: (i64, i64) = (column(row, "priority")?, column(row, "seq")?);
        jobs.push((place, claimed_job(row, claim.token)?));
    }
    jobs.sort_by_key(|(place, _)| *place);
    let taken = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
    let values: [Value; 3] = [lane.id.into(), taken.into(), (taken >= lane.room).into()];
    let counted = query_one(transaction, COUNT.on(Dialect::Sqlite), values).await?;
    let rate_for = counted.map_or(Ok(0), |row| column(&row, "rate_for"))?;
    Ok((jobs.into_iter().map(|(_, job)| job).collect(), rate_for))
}
