//! Limits and pauses of lanes: the same on both databases.

use std::time::Duration;

use postrider_database::sql::{Template, column, execute, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Value};

use crate::job::{LaneId, LaneRate, LaneSettings};
use crate::tables::{STATES, duration, integer, millis};

/// What a lane owes to its old rate, it owes to the new one: as many jobs as before, and at most a burst. So a raised limit
/// is not held back by the slower one before it, and a change gives no second burst. A lane that had no limit owes nothing.
///
/// The pause of an ordered lane that waits for a retry ends with the order; a breaker's pause does not.
static CONFIGURE: Template = Template::new(
    "INSERT INTO lanes (id, concurrency, ordered, rate_interval_us, rate_burst,
         rate_next_us, running, paused_until, probing, parked)
     VALUES ($1, $2, $3, $4, $5, 0, 0, 0, false, false)
     ON CONFLICT (id) DO UPDATE SET concurrency = excluded.concurrency, ordered = excluded.ordered,
         rate_interval_us = excluded.rate_interval_us, rate_burst = excluded.rate_burst,
         rate_next_us = CASE
             WHEN lanes.rate_next_us <= {now} * 1000
                 OR lanes.rate_interval_us IS NULL OR excluded.rate_interval_us IS NULL THEN 0
             ELSE {now} * 1000 + CAST(excluded.rate_interval_us * {least}(
                 (lanes.rate_next_us - {now} * 1000) * 1.0 / lanes.rate_interval_us, excluded.rate_burst
             ) AS bigint) END,
         paused_until = CASE WHEN {disordered} THEN CASE WHEN lanes.parked THEN 1 ELSE 0 END
             ELSE lanes.paused_until END,
         shut = lanes.shut AND NOT ({disordered})",
    &[&[("disordered", "lanes.ordered AND NOT excluded.ordered AND NOT lanes.probing")]],
);

/// A job that an ordered lane retries is ready in its old place although it is not due, as the lane pauses instead. There
/// are a few of them if the lane ran several when it became ordered, and they are its first.
static UNORDER_ON_POSTGRES: Template = Template::new(
    "UPDATE jobs SET state = {scheduled} WHERE id = ANY (ARRAY(
         SELECT id FROM (
             SELECT id, available_at FROM jobs WHERE lane = $1 AND state = {ready}
             ORDER BY priority, seq LIMIT $2 FOR UPDATE SKIP LOCKED
         ) AS first WHERE available_at > {now}
     ))",
    &[STATES],
);

static UNORDER_ON_SQLITE: Template = Template::new(
    "UPDATE jobs SET state = {scheduled} WHERE id IN (
         SELECT id FROM (
             SELECT id, available_at FROM jobs WHERE lane = $1 AND state = {ready} ORDER BY priority, seq LIMIT $2
         ) WHERE available_at > {now}
     )",
    &[STATES],
);

/// Among how many of its first jobs a lane that is no longer ordered looks for retries that are not due. The worker puts
/// back any others when it has claimed them.
const UNORDERED_AT_ONCE: i64 = 1_000;

static PAUSE: Template = Template::new(
    "UPDATE lanes SET paused_until = {now} + $2, probing = true, shut = true WHERE id = $1",
    &[],
);

/// `park` finds lanes with parked jobs by an index over `paused_until > 0`, so such a lane keeps a 1.
static RESUME: Template = Template::new(
    "UPDATE lanes SET paused_until = CASE WHEN parked THEN 1 ELSE 0 END, probing = false, shut = false WHERE id = $1",
    &[],
);

static LONGEST_WAIT: Template = Template::new(include_str!("longest_wait.sql"), &[STATES]);

pub(crate) async fn configure(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    settings: LaneSettings,
) -> Result<(), DatabaseError> {
    let micros = |rate: LaneRate| i64::try_from(rate.interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let values: [Value; 5] = [
        lane.0.into(),
        settings.concurrency.map(|limit| integer(limit.get())).into(),
        settings.ordered.into(),
        settings.rate.map(micros).into(),
        settings.rate.map(|rate| integer(rate.burst.get())).into(),
    ];
    if !settings.ordered {
        let statement = match Dialect::of(connection) {
            Dialect::Postgres => &UNORDER_ON_POSTGRES,
            Dialect::Sqlite => &UNORDER_ON_SQLITE,
        };
        run(connection, statement, [lane.0.into(), UNORDERED_AT_ONCE.into()]).await?;
    }
    run(connection, &CONFIGURE, values).await.map(drop)
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

pub(crate) async fn longest_wait(
    connection: &impl ConnectionTrait,
    calm: Duration,
) -> Result<Option<Duration>, DatabaseError> {
    let sql = LONGEST_WAIT.on(Dialect::of(connection));
    let row = query_one(connection, sql, [millis(calm).into()]).await?;
    let waited = row.map_or(Ok(None), |row| column::<Option<i64>>(&row, "waited"))?;
    Ok(waited.map(duration))
}

async fn run<const N: usize>(
    connection: &impl ConnectionTrait,
    statement: &Template,
    values: [Value; N],
) -> Result<u64, DatabaseError> {
    execute(connection, statement.on(Dialect::of(connection)), values).await
}
