//! Limits and pauses of lanes: the same on both databases.

use std::time::Duration;

use postrider_database::sql::{Template, column, execute, query_all};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Value};

use crate::job::{LaneId, LaneRate, LaneSettings};
use crate::tables::{PRIORITIES, WITHHELD, integer, millis};

/// What a lane owes to its old rate, it owes to the new one: as many jobs as before, and at most a burst. So a raised limit
/// is not held back by the slower one before it, and a change gives no second burst. A lane that had no limit owes nothing.
///
/// The pause of an ordered lane that waits for a retry ends with the order; a breaker's pause does not.
static CONFIGURE: Template = Template::new(
    "INSERT INTO lanes (id, owner, concurrency, ordered, rate_interval_us, rate_burst,
         rate_next_us, running, paused_until, probing)
     VALUES ($1, $6, $2, $3, $4, $5, 0, 0, 0, false)
     ON CONFLICT (id) DO UPDATE SET concurrency = excluded.concurrency, ordered = excluded.ordered,
         rate_interval_us = excluded.rate_interval_us, rate_burst = excluded.rate_burst,
         rate_next_us = CASE
             WHEN lanes.rate_next_us <= {now} * 1000
                 OR lanes.rate_interval_us IS NULL OR excluded.rate_interval_us IS NULL THEN 0
             ELSE {now} * 1000 + CAST(excluded.rate_interval_us * {least}(
                 (lanes.rate_next_us - {now} * 1000) * 1.0 / lanes.rate_interval_us, excluded.rate_burst
             ) AS bigint) END,
         paused_until = CASE WHEN {disordered} THEN 0 ELSE lanes.paused_until END,
         shut_until = CASE WHEN {on_hold} THEN lanes.shut_until WHEN NOT ({disordered}) AND lanes.paused_until > {now} THEN lanes.paused_until END,
         crowded = lanes.crowded AND NOT excluded.ordered,
         passed = 0,
         head = CASE WHEN excluded.ordered THEN 0 ELSE lanes.head END,
         next_head = CASE WHEN excluded.ordered THEN 0 ELSE lanes.next_head END",
    &[WITHHELD, &[("disordered", "lanes.ordered AND NOT excluded.ordered AND NOT lanes.probing")]],
);

/// A job that an ordered lane retries is ready in its old place although it is not due, as the lane pauses instead. There
/// are a few of them if the lane ran several when it became ordered, and they are its first.
static UNORDER_ON_POSTGRES: Template = Template::new(
    "WITH early AS (
         DELETE FROM jobs WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM (
                 SELECT ctid, available_at FROM jobs WHERE lane = $1 AND priority = {first_try} AND lease_token IS NULL
                 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED
             ) AS first WHERE available_at > {now}
         )) AND lease_token IS NULL RETURNING *
     )
     INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, lane, owner, subject, priority, available_at, claims, rescues, trace FROM early ORDER BY seq",
    &[PRIORITIES],
);

static EARLY_ON_SQLITE: Template = Template::new(
    "SELECT seq FROM (
         SELECT seq, available_at FROM jobs WHERE lane = $1 AND priority = {first_try} AND lease_token IS NULL
         ORDER BY seq LIMIT $2
     ) WHERE available_at > {now}",
    &[PRIORITIES],
);

/// Among how many of its first jobs a lane that is no longer ordered looks for retries that are not due. The worker puts
/// back any others when it has claimed them.
const UNORDERED_AT_ONCE: i64 = 1_000;

static PAUSE: Template = Template::new(
    "UPDATE lanes SET paused_until = {now} + $2, probing = true,
         shut_until = CASE WHEN {on_hold} THEN shut_until ELSE {now} + $2 END WHERE id = $1",
    &[WITHHELD],
);

static RESUME: Template = Template::new(
    "UPDATE lanes SET paused_until = 0, probing = false, shut_until = CASE WHEN {on_hold} THEN shut_until END WHERE id = $1",
    &[WITHHELD],
);

pub(crate) async fn configure(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    owner: &str,
    settings: LaneSettings,
) -> Result<(), DatabaseError> {
    let micros = |rate: LaneRate| i64::try_from(rate.interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let values: [Value; 6] = [
        lane.0.into(),
        settings.concurrency.map(|limit| integer(limit.get())).into(),
        settings.ordered.into(),
        settings.rate.map(micros).into(),
        settings.rate.map(|rate| integer(rate.burst.get())).into(),
        owner.into(),
    ];
    run(connection, &CONFIGURE, values).await?;
    if !settings.ordered {
        unorder(connection, lane).await?;
    }
    Ok(())
}

/// The lane is locked by now: without that, ready jobs do not change.
async fn unorder(connection: &impl ConnectionTrait, lane: LaneId) -> Result<(), DatabaseError> {
    let values = [lane.0.into(), UNORDERED_AT_ONCE.into()];
    if Dialect::of(connection) == Dialect::Postgres {
        return run(connection, &UNORDER_ON_POSTGRES, values).await.map(drop);
    }
    for row in &query_all(connection, EARLY_ON_SQLITE.on(Dialect::Sqlite), values).await? {
        let seq: i64 = column(row, "seq")?;
        let copy = "INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
            SELECT id, lane, owner, subject, priority, available_at, claims, rescues, trace FROM jobs WHERE seq = $1";
        execute(connection, copy, [seq.into()]).await?;
        execute(connection, "DELETE FROM jobs WHERE seq = $1", [seq.into()]).await?;
    }
    Ok(())
}

pub(crate) async fn pause(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    duration: Duration,
) -> Result<(), DatabaseError> {
    run(connection, &PAUSE, [lane.0.into(), millis(duration).into()]).await.map(drop)
}

pub(crate) async fn resume(connection: &impl ConnectionTrait, lane: LaneId) -> Result<(), DatabaseError> {
    run(connection, &RESUME, [lane.0.into()]).await.map(drop)
}

async fn run<const N: usize>(
    connection: &impl ConnectionTrait,
    statement: &Template,
    values: [Value; N],
) -> Result<u64, DatabaseError> {
    execute(connection, statement.on(Dialect::of(connection)), values).await
}
