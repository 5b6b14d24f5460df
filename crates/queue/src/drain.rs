//! Draining lanes, whose waiting jobs end without being claimed: the same on both databases.

use std::collections::BTreeSet;

use postrider_database::sql::{Template, column, execute, lock_clause, query_all, query_one};
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind, Writes};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::job::{Draining, JobId, LaneId, Place, WaitingJob};
use crate::tables::PRIORITIES;

/// Starts draining, or stops it. A lane that is in this state already is not written.
static START: &str = "UPDATE lanes SET draining = true WHERE id = $1 AND NOT draining";
static STOP: &str =
    "UPDATE lanes SET draining = false, gone_at = NULL WHERE id = $1 AND (draining OR gone_at IS NOT NULL)";
static REMOVE: Template =
    Template::new("UPDATE lanes SET draining = true, gone_at = coalesce(gone_at, {now}) WHERE id = $1", &[]);

static NEXT: &str = "SELECT id FROM lanes WHERE draining AND id > $1 ORDER BY id LIMIT 1";

/// How many of a lane's first jobs are looked through for some of them.
pub(crate) const LOOKED_THROUGH: u32 = 1_000;

static WAITING: Template = Template::new(
    "SELECT * FROM (
         SELECT id, owner, subject, priority, seq, true AS due FROM jobs
         WHERE lane = $1 AND priority = {first_try} AND lease_token IS NULL ORDER BY seq LIMIT $2
     ) AS first_tries
     UNION ALL SELECT * FROM (
         SELECT id, owner, subject, priority, seq, true AS due FROM jobs
         WHERE lane = $1 AND priority = {retry} AND lease_token IS NULL ORDER BY seq LIMIT $2
     ) AS retries
     UNION ALL SELECT * FROM (
         SELECT id, owner, subject, priority, seq, false AS due FROM scheduled_jobs WHERE lane = $1 ORDER BY seq LIMIT $2
     ) AS scheduled
     LIMIT $2",
    &[PRIORITIES],
);

/// Locked in the order of their places, each looked up by itself: see `finish.rs`. A job that was claimed in between stays.
static REMOVE_READY: &str = "DELETE FROM jobs WHERE ctid = ANY (ARRAY(
         SELECT mine.place FROM (SELECT * FROM input ORDER BY priority, seq) AS given CROSS JOIN LATERAL (
             SELECT jobs.ctid AS place FROM jobs
             WHERE jobs.lane = $1 AND jobs.priority = given.priority AND jobs.seq = given.seq
                 AND jobs.id = given.id AND jobs.lease_token IS NULL LIMIT 1 FOR UPDATE
         ) AS mine
     ))";
static REMOVE_SCHEDULED: &str =
    "DELETE FROM scheduled_jobs USING (SELECT * FROM input ORDER BY priority, seq) AS given
     WHERE scheduled_jobs.lane = $1 AND scheduled_jobs.seq BETWEEN given.seq AND given.seq
         AND scheduled_jobs.id IS NOT DISTINCT FROM given.id";
static REMOVE_READY_ON_SQLITE: &str =
    "DELETE FROM jobs WHERE lane = $1 AND seq IN (SELECT seq FROM input) AND lease_token IS NULL";
static REMOVE_SCHEDULED_ON_SQLITE: &str =
    "DELETE FROM scheduled_jobs WHERE lane = $1 AND seq IN (SELECT seq FROM input)";

/// For how long a deleted lane is kept: longer than any transaction that found its owner and has yet to enqueue a job.
static GONE: Template = Template::new(
    "SELECT id FROM lanes WHERE gone_at < {now} - 3600000 AND NOT draining ORDER BY gone_at LIMIT $1",
    &[],
);

static REMOVE_LANE: &str =
    "DELETE FROM lanes WHERE id = $1 AND gone_at IS NOT NULL AND running = 0 AND NOT draining";

/// Locks the lanes. One that does not exist any more is made.
static KEEP: &str = "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
     SELECT id, owner, false, 0, 0, 0, false FROM input WHERE true
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
) -> Result<Vec<WaitingJob>, DatabaseError> {
    let sql = WAITING.on(Dialect::of(connection));
    let rows = query_all(connection, sql, [lane.0.into(), i64::from(max).into()]).await?;
    let read = |row| {
        Ok(WaitingJob {
            id: JobId(column(row, "id")?),
            owner: column(row, "owner")?,
            subject: column(row, "subject")?,
            place: Place { priority: column(row, "priority")?, seq: column(row, "seq")? },
            due: column(row, "due")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn remove(
    connection: &impl ConnectionTrait,
    lane: LaneId,
    jobs: &[WaitingJob],
) -> Result<(), DatabaseError> {
    const JOB: &[Column] =
        &[Column::new("priority", Kind::Small), Column::new("seq", Kind::Big), Column::new("id", Kind::Uuid)];
    let (from_ready, from_scheduled) = match Dialect::of(connection) {
        Dialect::Postgres => (REMOVE_READY, REMOVE_SCHEDULED),
        Dialect::Sqlite => (REMOVE_READY_ON_SQLITE, REMOVE_SCHEDULED_ON_SQLITE),
    };
    let (mut ready, mut scheduled) = (Batch::new(JOB), Batch::new(JOB));
    for WaitingJob { id, place, due, .. } in jobs {
        let input = if *due { &mut ready } else { &mut scheduled };
        input.push([place.priority.into(), place.seq.into(), id.0.into()]);
    }
    ready.execute(connection, from_ready, [lane.0.into()]).await?;
    scheduled.execute(connection, from_scheduled, [lane.0.into()]).await.map(drop)
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

pub(crate) fn keep(owner: &str, lanes: &BTreeSet<LaneId>, writes: &mut Writes) {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("owner", Kind::Text)];
    let mut input = Batch::new(LANE);
    for lane in lanes {
        input.push([lane.0.into(), owner.into()]);
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
