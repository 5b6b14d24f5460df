//! The table of running workers.

use std::time::Duration;

use postrider_database::sql::{Part, Template, column, execute, query_all};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use crate::job::{CheckIn, WorkerId};
use crate::tables::{integer, millis};
use crate::view::WorkerStatus;
use crate::workers::Live;

/// How long the row of a worker stays that has not checked in again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// The other workers, of a thousand at most. In one statement, which writes a row that no other worker writes.
static CHECK_IN: Template = Template::new(
    "WITH checked_in AS (
         {write_row}
     ), forgotten AS (
         DELETE FROM workers WHERE id = ANY (ARRAY(
             SELECT id FROM workers WHERE seen_at < {now} - $7 ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
         ))
     )
     SELECT id, busy FROM workers WHERE id <> $1 AND lapses_at >= {now} ORDER BY id LIMIT 1000",
    &[WRITE_ROW],
);
static REGISTER: Template = Template::new("{write_row}", &[WRITE_ROW]);
const WRITE_ROW: &[Part] = &[(
    "write_row",
    "INSERT INTO workers (id, host, version, started_at, seen_at, lapses_at, in_flight, busy)
     VALUES ($1, $2, $3, {now}, {now}, {now} + $6, $4, $5)
     ON CONFLICT (id) DO UPDATE SET seen_at = {now}, lapses_at = {now} + $6, in_flight = $4, busy = $5",
)];

static FORGET: Template = Template::new("DELETE FROM workers WHERE seen_at < {now} - $1", &[]);

static LIST: Template = Template::new(
    "SELECT id, host, version, started_at, seen_at, in_flight, lapses_at < {now} AS silent
     FROM workers WHERE seen_at >= {now} - $1 ORDER BY id LIMIT 1000",
    &[],
);

/// Reads the rows of all workers.
pub(crate) async fn workers(connection: &impl ConnectionTrait) -> Result<Vec<WorkerStatus>, DatabaseError> {
    let sql = LIST.on(Dialect::of(connection));
    let rows = query_all(connection, sql, [millis(FORGOTTEN_AFTER).into()]).await?;
    let read = |row| {
        Ok(WorkerStatus {
            worker: WorkerId(column(row, "id")?),
            host: column(row, "host")?,
            version: column(row, "version")?,
            started_at: column(row, "started_at")?,
            seen_at: column(row, "seen_at")?,
            in_flight: u32::try_from(column::<i32>(row, "in_flight")?).unwrap_or(0),
            silent: column(row, "silent")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Writes a worker's row, and returns the other workers that run, on PostgreSQL.
pub(crate) async fn check_in(
    connection: &impl ConnectionTrait,
    worker: &CheckIn,
) -> Result<Vec<Live>, DatabaseError> {
    let [id, host, version, in_flight, busy, lapse] = row(worker);
    let values = [id, host, version, in_flight, busy, lapse, millis(FORGOTTEN_AFTER).into()];
    let rows = query_all(connection, CHECK_IN.on(Dialect::Postgres), values).await?;
    let live = |row| Ok(Live { worker: WorkerId(column::<Uuid>(row, "id")?), busy: column(row, "busy")? });
    rows.iter().map(live).collect()
}

/// Writes a worker's row on SQLite, where it is the only one.
pub(crate) async fn register(
    connection: &impl ConnectionTrait,
    worker: &CheckIn,
) -> Result<(), DatabaseError> {
    execute(connection, REGISTER.on(Dialect::Sqlite), row(worker)).await?;
    execute(connection, FORGET.on(Dialect::Sqlite), [millis(FORGOTTEN_AFTER).into()]).await?;
    Ok(())
}

/// Removes a worker's row.
pub(crate) async fn check_out(
    connection: &impl ConnectionTrait,
    worker: WorkerId,
) -> Result<(), DatabaseError> {
    execute(connection, "DELETE FROM workers WHERE id = $1", [worker.0.into()]).await?;
    Ok(())
}

fn row(CheckIn { worker, host, version, in_flight, busy, lapse }: &CheckIn) -> [Value; 6] {
    [
        worker.0.into(),
        host.as_str().into(),
        version.as_str().into(),
        integer(*in_flight).into(),
        (*busy).into(),
        millis(*lapse).into(),
    ]
}
