//! The table `outbox`: a row holds the jobs of a transaction, as JSON.

use std::collections::HashSet;
use std::time::Duration;

use postrider_database::sql::{Template, column, query_all, query_one};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Writes};
use sea_orm::{ConnectionTrait, QueryResult};
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

/// How many rows are read at most to offer the jobs of a lane in order.
const IN_ORDER: u8 = 50;

/// How many rows are relayed at once.
const AT_ONCE: u8 = 20;

/// Up to how many rows are counted.
const COUNTED: i64 = 10_000;

static INSERT: Template =
    Template::new("INSERT INTO outbox (id, created_at, jobs) SELECT id, {now}, jobs FROM input", &[]);

/// In the order in which they were written, whatever the clocks of their processes said.
static FIRST: Template = Template::new(
    "SELECT id, age, jobs FROM (
         SELECT rowid AS place, id, {now} - created_at AS age, jobs FROM outbox ORDER BY rowid LIMIT $2
     ) AS first WHERE age >= $1 ORDER BY place",
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

/// Those of the first `max` rows that are so old, in milliseconds.
async fn first(
    connection: &impl ConnectionTrait,
    least_age: i64,
    max: u8,
) -> Result<Vec<QueryResult>, DatabaseError> {
    let sql = FIRST.on(Dialect::of(connection));
    query_all(connection, sql, [least_age.into(), i64::from(max).into()]).await
}

/// The jobs of a row.
fn read(row: &QueryResult) -> Result<Vec<NewJob>, QueueError> {
    let (bytes, age): (Vec<u8>, Duration) = (column(row, "jobs")?, duration(column(row, "age")?));
    let stored: Vec<Stored<'_>> =
        serde_json::from_slice(&bytes).map_err(|error| QueueError::Refused(Box::new(error)))?;
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
    let connection = database.connection();
    let old = i64::try_from(LEFT_BEHIND.as_millis()).unwrap_or(i64::MAX);
    let mut relayed = 0;
    loop {
        let rows = first(connection, old, AT_ONCE).await?;
        let (mut ids, mut jobs) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            ids.push(column::<Uuid>(row, "id")?);
            jobs.append(&mut read(row)?);
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

/// Offers the jobs of these lanes that wait in the outbox, in the order in which they were written, since the offers of earlier
/// transactions may have failed or be under way in other processes. Returns whether all jobs of these lanes in `rows` were
/// among them. If not, too many rows wait, and the relay comes to them. The jobs of the rows `known` are in the queue.
pub(crate) async fn offer_in_order(
    database: &Database,
    remote: &dyn Fillable,
    lanes: &HashSet<LaneId>,
    rows: &[Uuid],
    known: &[Uuid],
) -> Result<bool, QueueError> {
    // Whatever their age.
    let first = first(database.connection(), i64::MIN, IN_ORDER).await?;
    let (mut ids, mut jobs) = (HashSet::with_capacity(first.len()), Vec::new());
    for row in &first {
        let id: Uuid = column(row, "id")?;
        ids.insert(id);
        if !known.contains(&id) {
            jobs.extend(read(row)?.into_iter().filter(|job| lanes.contains(&job.lane)));
        }
    }
    remote.offer(&jobs).await?;
    // Rows that are not there any more were relayed.
    Ok(first.len() < usize::from(IN_ORDER) || rows.iter().all(|row| ids.contains(row)))
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
