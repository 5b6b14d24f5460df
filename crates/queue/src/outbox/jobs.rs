//! The table `outbox`: a row holds the jobs of a transaction, as JSON.

use std::time::Duration;

use postrider_database::sql::{Template, column, query_all, query_one};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Writes};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::{JobId, LaneId, NewJob};
use crate::remote::{Backlog, Fillable};
use crate::tables::duration;

/// The most jobs of a row: about 200 KB.
pub(crate) const MOST: usize = 1_000;

/// How old a row must be before it counts as left behind. The courier needs a few milliseconds.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

/// How many rows are relayed at once.
const AT_ONCE: u8 = 20;

/// Up to how many rows are counted.
const COUNTED: i64 = 10_000;

static INSERT: Template =
    Template::new("INSERT INTO outbox (id, created_at, jobs) SELECT id, {now}, jobs FROM input", &[]);

/// By id: ids begin with their time, so the oldest come first, and the primary key finds them.
static OLD: Template = Template::new(
    "SELECT id, {now} - created_at AS age, jobs FROM outbox WHERE created_at <= {now} - $1 ORDER BY id LIMIT $2",
    &[],
);

static BACKLOG: Template = Template::new(
    "SELECT count(*) AS rows, max({now} - created_at) AS age FROM (SELECT created_at FROM outbox ORDER BY id LIMIT $1) AS oldest",
    &[],
);

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: Uuid,
    lane: Uuid,
    owner: std::borrow::Cow<'a, str>,
    subject: Uuid,
    /// In milliseconds, from when the row was written.
    #[serde(default, skip_serializing_if = "is_zero")]
    delay: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<std::borrow::Cow<'a, str>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(crate) fn insert(dialect: Dialect, jobs: &[NewJob], writes: &mut Writes) {
    const ROW: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Bytes)];
    let mut rows = Batch::new(ROW);
    for jobs in jobs.chunks(MOST) {
        let Some(first) = jobs.first() else { continue };
        let stored: Vec<_> = jobs.iter().map(stored).collect();
        // Ids, texts and numbers always have a JSON form.
        rows.push([first.id.0.into(), serde_json::to_vec(&stored).unwrap_or_default().into()]);
    }
    writes.push(rows, INSERT.on(dialect));
}

fn stored(job: &NewJob) -> Stored<'_> {
    Stored {
        id: job.id.0,
        lane: job.lane.0,
        owner: (&*job.owner).into(),
        subject: job.subject,
        delay: u64::try_from(job.delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
        trace: job.trace.as_deref().map(Into::into),
    }
}

/// The jobs of a row that was written so long ago.
fn read(bytes: &[u8], age: Duration) -> Result<Vec<NewJob>, QueueError> {
    let stored: Vec<Stored<'_>> =
        serde_json::from_slice(bytes).map_err(|error| QueueError::Refused(Box::new(error)))?;
    let job = |stored: Stored<'_>| NewJob {
        id: JobId(stored.id),
        lane: LaneId(stored.lane),
        owner: stored.owner.into_owned(),
        subject: stored.subject,
        delay: Duration::from_millis(stored.delay).saturating_sub(age),
        trace: stored.trace.map(Into::into),
    };
    Ok(stored.into_iter().map(job).collect())
}

/// Offers the jobs of rows that were left behind. Returns how many jobs.
pub(crate) async fn relay(database: &Database, remote: &dyn Fillable) -> Result<u64, QueueError> {
    let (connection, sql) = (database.connection(), OLD.on(database.dialect()));
    let mut relayed = 0;
    loop {
        let old = i64::try_from(LEFT_BEHIND.as_millis()).unwrap_or(i64::MAX);
        let rows = query_all(connection, sql, [old.into(), i64::from(AT_ONCE).into()]).await?;
        let (mut ids, mut jobs) = (Vec::new(), Vec::new());
        for row in &rows {
            ids.push(column::<Uuid>(row, "id")?);
            jobs.extend(read(&column::<Vec<u8>>(row, "jobs")?, duration(column(row, "age")?))?);
        }
        if ids.is_empty() {
            return Ok(relayed);
        }
        remote.offer(&jobs).await?;
        delete(connection, &ids).await?;
        relayed += jobs.len() as u64;
        if ids.len() < usize::from(AT_ONCE) {
            return Ok(relayed);
        }
    }
}

/// Deletes rows whose jobs the queue has.
pub(crate) async fn delete(connection: &impl ConnectionTrait, ids: &[Uuid]) -> Result<(), DatabaseError> {
    const ID: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut rows = Batch::new(ID);
    for id in ids {
        rows.push([(*id).into()]);
    }
    let sql = match Dialect::of(connection) {
        // Looked up one by one in the index, whatever the planner knows of the table.
        Dialect::Postgres => "DELETE FROM outbox USING input WHERE outbox.id BETWEEN input.id AND input.id",
        Dialect::Sqlite => "DELETE FROM outbox WHERE id IN (SELECT id FROM input)",
    };
    rows.execute(connection, sql, []).await.map(drop)
}

pub(crate) async fn backlog(connection: &impl ConnectionTrait) -> Result<Backlog, DatabaseError> {
    let row = query_one(connection, BACKLOG.on(Dialect::of(connection)), [COUNTED.into()]).await?;
    let Some(row) = row else { return Ok(Backlog::default()) };
    let rows: i64 = column(&row, "rows")?;
    let age: Option<i64> = column(&row, "age")?;
    Ok(Backlog { transactions: rows.unsigned_abs(), oldest: age.map(duration) })
}

/// The ids of the rows that [`insert`] makes for these jobs.
pub(crate) fn rows_of(jobs: &[NewJob]) -> impl Iterator<Item = Uuid> + '_ {
    jobs.chunks(MOST).filter_map(|jobs| jobs.first()).map(|job| job.id.0)
}
