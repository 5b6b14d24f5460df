//! What a lane allows, and its pauses: the same on both databases.

use std::time::Duration;

use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::enqueue::{clamp, millis};
use crate::error::QueueError;
use crate::job::{LaneId, LaneRate, LaneSettings};
use crate::row::{column, span};

pub(crate) async fn configure(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    settings: LaneSettings,
) -> Result<(), QueueError> {
    let micros = |rate: LaneRate| i64::try_from(rate.interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let values: [Value; 5] = [
        lane.0.into(),
        settings.concurrency.map(|limit| clamp(limit.get())).into(),
        settings.ordered.into(),
        settings.rate.map(micros).into(),
        settings.rate.map(|rate| clamp(rate.burst.get())).into(),
    ];
    let sql = "INSERT INTO lanes (id, concurrency, ordered, rate_interval_us, rate_burst, rate_next_us, running, paused_until, probing, parked) \
         VALUES ($1, $2, $3, $4, $5, 0, 0, 0, false, false) \
         ON CONFLICT (id) DO UPDATE SET concurrency = excluded.concurrency, ordered = excluded.ordered, \
             rate_interval_us = excluded.rate_interval_us, rate_burst = excluded.rate_burst";
    execute(connection, sql, values).await
}

pub(crate) async fn pause(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    duration: Duration,
) -> Result<(), QueueError> {
    let now = Dialect::of(connection).now();
    let sql =
        format!("UPDATE lanes SET paused_until = {now} + $2, probing = true, shut = true WHERE id = $1");
    execute(connection, &sql, [lane.0.into(), millis(duration).into()]).await
}

pub(crate) async fn resume(connection: &impl ConnectionTrait, lane: LaneId) -> Result<(), QueueError> {
    // Zero would take a lane with jobs set aside out of the index that `park` looks them up by.
    let sql = "UPDATE lanes SET paused_until = CASE WHEN parked THEN 1 ELSE 0 END, probing = false, shut = false \
        WHERE id = $1";
    execute(connection, sql, [lane.0.into()]).await
}

/// Jobs set aside come back by `park`, since the lane is paused no more.
pub(crate) async fn expedite(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    max: u32,
) -> Result<u64, QueueError> {
    let sql = "UPDATE jobs SET state = 0 WHERE state = 1 AND id IN ( \
            SELECT id FROM jobs WHERE lane = $1 AND state = 1 LIMIT $2 \
        )";
    let values: [Value; 2] = [lane.0.into(), i64::from(max).into()];
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    let ready = connection.execute_raw(statement).await.map_err(DatabaseError::from)?.rows_affected();
    resume(connection, lane).await?;
    Ok(ready)
}

/// From lane to lane, as a claim walks; of each the job that a claim would take first.
pub(crate) async fn longest_wait(
    connection: &impl ConnectionTrait,
    calm: Duration,
) -> Result<Option<Duration>, QueueError> {
    let now = Dialect::of(connection).now();
    let sql = format!(
        "WITH RECURSIVE walk(lane) AS ( \
            SELECT (SELECT lane FROM jobs WHERE state = 0 ORDER BY lane LIMIT 1) \
            UNION ALL \
            SELECT (SELECT jobs.lane FROM jobs WHERE state = 0 AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1) \
            FROM walk WHERE walk.lane IS NOT NULL \
        ) \
        SELECT max({now} - (SELECT available_at FROM jobs WHERE state = 0 AND jobs.lane = lanes.id \
            ORDER BY priority, seq LIMIT 1)) AS waited \
        FROM walk JOIN lanes ON lanes.id = walk.lane \
        WHERE paused_until <= {now} AND NOT probing AND full_at <= {now} - $1"
    );
    let statement =
        Statement::from_sql_and_values(connection.get_database_backend(), sql, [millis(calm).into()]);
    let row = connection.query_one_raw(statement).await.map_err(DatabaseError::from)?;
    let waited = row.map_or(Ok(None), |row| column::<Option<i64>>(&row, "waited"))?;
    Ok(waited.map(span))
}

async fn execute(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), QueueError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    connection.execute_raw(statement).await.map_err(DatabaseError::from)?;
    Ok(())
}
