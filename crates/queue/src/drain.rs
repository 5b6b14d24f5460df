//! Draining lanes, whose waiting jobs end without being claimed: the same on both databases.

use std::collections::BTreeSet;

use postrider_database::sql::{Template, column, execute, lock_clause, query_all, query_one};
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind, Writes};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::job::{Draining, JobId, LaneId};
use crate::tables::STATES;

/// Starts draining, or stops it. A lane that is in this state already is not written.
static START: &str = "UPDATE lanes SET draining = true WHERE id = $1 AND NOT draining";
static STOP: &str =
    "UPDATE lanes SET draining = false, gone_at = NULL WHERE id = $1 AND (draining OR gone_at IS NOT NULL)";
static REMOVE: Template =
    Template::new("UPDATE lanes SET draining = true, gone_at = {now} WHERE id = $1", &[]);

static NEXT: &str = "SELECT id FROM lanes WHERE draining AND id > $1 ORDER BY id LIMIT 1";

/// State by state, each by its own index. Two indexes hold scheduled jobs, and while PostgreSQL believes that there are
/// next to none, it may prefer the one by time and read those of all lanes. A range and an order, with sorting turned off,
/// leave only the one by lane.
static WAITING: Template = Template::new(
    "SELECT * FROM (
         SELECT id, subject FROM jobs WHERE state = {ready} AND lane = $1 ORDER BY priority, seq LIMIT $2
     ) AS ready
     UNION ALL SELECT * FROM (
         SELECT id, subject FROM jobs WHERE state = {parked} AND lane = $1 ORDER BY priority, seq LIMIT $2
     ) AS parked
     UNION ALL SELECT * FROM (
         SELECT id, subject FROM jobs WHERE state = {scheduled} AND lane >= $1 AND lane <= $1 ORDER BY lane LIMIT $2
     ) AS scheduled
     LIMIT $2",
    &[STATES],
);

/// Locked in the order of ids, as `finish.sql` does. A job that was claimed in between stays.
static REMOVE_ON_POSTGRES: Template = Template::new(
    ", held AS MATERIALIZED (
         SELECT mine.id FROM (SELECT * FROM input ORDER BY id) AS given CROSS JOIN LATERAL (
             SELECT jobs.id FROM jobs WHERE jobs.id = given.id AND state <> {running} LIMIT 1 FOR UPDATE
         ) AS mine
     )
     DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held))",
    &[STATES],
);

static REMOVE_ON_SQLITE: Template =
    Template::new("DELETE FROM jobs WHERE id IN (SELECT id FROM input) AND state <> {running}", &[STATES]);

/// For how long a deleted lane is kept: longer than any transaction that found its owner and has yet to enqueue a job.
static GONE: Template = Template::new(
    "SELECT id FROM lanes WHERE gone_at < {now} - 3600000 AND NOT draining ORDER BY gone_at LIMIT $1",
    &[],
);

static REMOVE_LANE: &str =
    "DELETE FROM lanes WHERE id = $1 AND gone_at IS NOT NULL AND running = 0 AND NOT draining";

/// Locks the lanes. One that does not exist any more is made.
static KEEP: &str = "INSERT INTO lanes (id, ordered, rate_next_us, running, paused_until, probing, parked)
     SELECT id, false, 0, 0, 0, false, false FROM input WHERE true
     ON CONFLICT (id) DO UPDATE SET running = lanes.running";

pub(crate) async fn set(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    draining: Draining,
) -> Result<(), DatabaseError> {
    let sql = match draining {
        Draining::No => STOP,
        Draining::Yes => START,
        Draining::ThenRemoved => REMOVE.on(Dialect::of(connection)),
    };
    execute(connection, sql, [lane.0.into()]).await.map(drop)
}

pub(crate) async fn next(
    connection: &impl ConnectionTrait,
    after: Option<LaneId>,
) -> Result<Option<LaneId>, DatabaseError> {
    let after = after.map_or(Uuid::nil(), |lane| lane.0);
    let row = query_one(connection, NEXT, [after.into()]).await?;
    row.map(|row| Ok(LaneId(column(&row, "id")?))).transpose()
}

pub(crate) async fn waiting(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    max: u32,
) -> Result<Vec<(JobId, Uuid)>, DatabaseError> {
    let dialect = Dialect::of(connection);
    if dialect == Dialect::Postgres {
        execute(connection, "SET LOCAL enable_sort = off", []).await?;
    }
    let sql = WAITING.on(dialect);
    let rows = query_all(connection, sql, [lane.0.into(), i64::from(max).into()]).await?;
    rows.iter().map(|row| Ok((JobId(column(row, "id")?), column(row, "subject")?))).collect()
}

pub(crate) async fn remove(connection: &impl ConnectionTrait, jobs: &[JobId]) -> Result<(), DatabaseError> {
    const JOB: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut input = Batch::new(JOB);
    for job in jobs {
        input.push([job.0.into()]);
    }
    let statement = match Dialect::of(connection) {
        Dialect::Postgres => &REMOVE_ON_POSTGRES,
        Dialect::Sqlite => &REMOVE_ON_SQLITE,
    };
    input.execute(connection, statement.on(Dialect::of(connection)), []).await.map(drop)
}

/// Locks a lane until the transaction ends.
pub(crate) async fn lock(connection: &impl ConnectionTrait, lane: LaneId) -> Result<(), DatabaseError> {
    let sql = format!("SELECT id FROM lanes WHERE id = $1{}", lock_clause(Dialect::of(connection)));
    query_one(connection, sql, [lane.0.into()]).await.map(drop)
}

/// Stops draining a lane, which it locks. If the lane's owner was deleted, the lane is still to be removed.
pub(crate) async fn stop(connection: &impl ConnectionTrait, lane: LaneId) -> Result<(), DatabaseError> {
    let sql = "UPDATE lanes SET draining = false WHERE id = $1 AND draining";
    execute(connection, sql, [lane.0.into()]).await.map(drop)
}

pub(crate) fn keep(lanes: &BTreeSet<LaneId>, writes: &mut Writes) {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut input = Batch::new(LANE);
    for lane in lanes {
        input.push([lane.0.into()]);
    }
    writes.push(input, KEEP);
}

/// Lanes whose owner was deleted long enough ago.
pub(crate) async fn gone(connection: &impl ConnectionTrait, max: u32) -> Result<Vec<LaneId>, DatabaseError> {
    let rows = query_all(connection, GONE.on(Dialect::of(connection)), [i64::from(max).into()]).await?;
    rows.iter().map(|row| Ok(LaneId(column(row, "id")?))).collect()
}

/// Removes a locked lane in which nothing waits, unless one of its jobs is running. Returns how many lanes it removed.
pub(crate) async fn remove_lane(
    connection: &impl ConnectionTrait,
    lane: LaneId,
) -> Result<u64, DatabaseError> {
    execute(connection, REMOVE_LANE, [lane.0.into()]).await
}
