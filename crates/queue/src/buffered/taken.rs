//! The table `taken_jobs`: which jobs have come from the buffer into the tables of the queue.

use std::collections::HashSet;

use postrider_database::sql::column;
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Writes};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::{JobId, LaneId, NewJob};
use crate::transactional::{TransactionalQueue, commit};

const ID: &[Column] = &[Column::new("id", Kind::Uuid)];

/// In the order of their ids, so that two transactions that take the same jobs do not deadlock.
const TAKE: &str = "INSERT INTO taken_jobs (id) SELECT id FROM input WHERE true ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id";

const FORGET_ON_POSTGRES: &str =
    "DELETE FROM taken_jobs USING input WHERE taken_jobs.id BETWEEN input.id AND input.id";
const FORGET_ON_SQLITE: &str = "DELETE FROM taken_jobs WHERE id IN (SELECT id FROM input)";

const ORDERED: &str =
    "SELECT lanes.id FROM input JOIN lanes ON lanes.id BETWEEN input.id AND input.id WHERE lanes.ordered";

/// Enqueues those of these jobs that are not in the tables, and returns them.
pub(super) async fn admit(
    database: &Database,
    tables: &dyn TransactionalQueue,
    jobs: &[NewJob],
) -> Result<Vec<NewJob>, QueueError> {
    let transaction = database.begin().await?;
    let rows = batch(jobs.iter().map(|job| job.id)).query(&transaction, TAKE, []).await?;
    let mut new = HashSet::new();
    for row in &rows {
        new.insert(column::<Uuid>(row, "id")?);
    }
    let admitted: Vec<NewJob> = jobs.iter().filter(|job| new.remove(&job.id.0)).cloned().collect();
    let mut writes = Writes::new();
    tables.enqueue_with(&admitted, &mut writes);
    writes.execute(&transaction).await?;
    commit(transaction).await?;
    Ok(admitted)
}

/// Jobs have left the tables.
pub(super) async fn forget(connection: &impl ConnectionTrait, jobs: &[JobId]) -> Result<(), DatabaseError> {
    let sql = match Dialect::of(connection) {
        Dialect::Postgres => FORGET_ON_POSTGRES,
        Dialect::Sqlite => FORGET_ON_SQLITE,
    };
    if jobs.is_empty() {
        return Ok(());
    }
    batch(jobs.iter().copied()).execute(connection, sql, []).await.map(drop)
}

/// The same as one of several writes, on PostgreSQL.
pub(super) fn forget_with(jobs: impl Iterator<Item = JobId>, writes: &mut Writes) {
    writes.push(batch(jobs), FORGET_ON_POSTGRES);
}

/// Which of the lanes of these jobs are ordered.
pub(super) async fn ordered_lanes(
    connection: &impl ConnectionTrait,
    jobs: &[&NewJob],
) -> Result<HashSet<LaneId>, DatabaseError> {
    let lanes: HashSet<JobId> = jobs.iter().map(|job| JobId(job.lane.0)).collect();
    let rows = batch(lanes.into_iter()).query(connection, ORDERED, []).await?;
    rows.iter().map(|row| Ok(LaneId(column(row, "id")?))).collect()
}

fn batch(ids: impl Iterator<Item = JobId>) -> Batch {
    let mut ids: Vec<Uuid> = ids.map(|id| id.0).collect();
    ids.sort_unstable();
    let mut batch = Batch::new(ID);
    for id in ids {
        batch.push([id.into()]);
    }
    batch
}
