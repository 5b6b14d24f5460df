//! Folding the deltas of attempts into the roll-ups.

use std::collections::BTreeMap;
use std::time::Instant;

use postrider_database::sql::{column, query_all, query_one};
use postrider_database::{Batch, Column, Database, Dialect, Kind, Transaction};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::attempts::{ALL_EVENT_TYPES, ALL_SUBSCRIBERS, stored_count, tally};
use super::clock::{DAY, HOUR, MINUTE, start_of_row};
use super::tally::Tally;
use crate::StoreError;

/// The most deltas that one transaction folds, so that it is short.
const FOLDED_AT_ONCE: i64 = 500;

/// The PostgreSQL advisory lock of the process that folds: "postride" in ASCII.
const LOCK: i64 = 0x706f_7374_7269_6465;

/// The result of [`crate::Store::fold_attempts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The number of deltas that were folded.
    pub deltas: u64,
    /// The number of rows that could not be read and were left out. Such a row means a bug in this program or damage in
    /// the database; leaving it out lets the deltas after it be folded.
    pub unreadable: u64,
}

/// The key of a roll-up row: tenant, subscriber, event type, width and first minute. Rows are written in its order, so
/// that two writers do not deadlock.
type Cell = (String, Uuid, String, i64, i64);

/// Folds deltas until there are none or until `until`, unless another process is folding.
pub(super) async fn fold(database: &Database, until: Instant) -> Result<Folded, StoreError> {
    let mut all = Folded::default();
    // Most calls find nothing. They need no transaction, which on SQLite would lock the database.
    let any = query_one(database.connection(), "SELECT seq FROM attempt_deltas LIMIT 1", []).await?;
    if any.is_none() {
        return Ok(all);
    }
    while Instant::now() < until
        && let Some(folded) = fold_batch(database).await?
    {
        all.deltas += folded.deltas;
        all.unreadable += folded.unreadable;
        if folded.deltas < FOLDED_AT_ONCE.unsigned_abs() {
            break;
        }
    }
    Ok(all)
}

/// Folds the oldest deltas in one transaction. Returns `None` if another process is folding.
async fn fold_batch(database: &Database) -> Result<Option<Folded>, StoreError> {
    let transaction = database.begin().await?;
    if !lock(&transaction).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let sql = "DELETE FROM attempt_deltas WHERE seq IN (SELECT seq FROM attempt_deltas ORDER BY seq LIMIT $1) \
        RETURNING tenant, subscriber_id, event_type, minute, counts";
    let deltas = query_all(&transaction, sql, [FOLDED_AT_ONCE.into()]).await?;
    let mut cells: BTreeMap<Cell, Tally> = BTreeMap::new();
    let mut unreadable = 0;
    for row in &deltas {
        let Ok(tally) = tally(row, column(row, "minute")?) else {
            unreadable += 1;
            continue;
        };
        for cell in cells_of(row)? {
            cells.entry(cell).or_default().merge(&tally);
        }
    }
    for row in existing(&transaction, cells.keys()).await? {
        let start = column(&row, "start")?;
        let Ok(tally) = tally(&row, start) else {
            unreadable += 1;
            continue;
        };
        let cell = (
            column(&row, "tenant")?,
            column(&row, "subscriber_id")?,
            column(&row, "event_type")?,
            column(&row, "width")?,
            start,
        );
        cells.entry(cell).or_default().merge(&tally);
    }
    replace(&transaction, cells).await?;
    transaction.commit().await?;
    Ok(Some(Folded { deltas: deltas.len() as u64, unreadable }))
}

/// Takes the lock of the process that folds, until the transaction ends. Returns `false` if another process holds it.
/// On SQLite a writing transaction has the database to itself and needs no lock.
async fn lock(transaction: &Transaction) -> Result<bool, StoreError> {
    if Dialect::of(transaction) == Dialect::Sqlite {
        return Ok(true);
    }
    let row = query_one(transaction, "SELECT pg_try_advisory_xact_lock($1) AS locked", [LOCK.into()]).await?;
    row.map_or(Ok(false), |row| Ok(column(&row, "locked")?))
}

/// The rows that a delta is added to: its own, and those of all subscribers and all event types, in each width.
fn cells_of(row: &QueryResult) -> Result<impl Iterator<Item = Cell>, StoreError> {
    let tenant: String = column(row, "tenant")?;
    let subscriber: Uuid = column(row, "subscriber_id")?;
    let event_type: String = column(row, "event_type")?;
    let minute: i64 = column(row, "minute")?;
    Ok([MINUTE, HOUR, DAY].into_iter().flat_map(move |width| {
        let start = start_of_row(minute, width);
        let cell =
            |subscriber, event_type: &str| (tenant.clone(), subscriber, event_type.to_owned(), width, start);
        [
            cell(subscriber, &event_type),
            cell(subscriber, ALL_EVENT_TYPES),
            cell(ALL_SUBSCRIBERS, &event_type),
            cell(ALL_SUBSCRIBERS, ALL_EVENT_TYPES),
        ]
    }))
}

/// Reads those of these rows that exist.
async fn existing(
    transaction: &Transaction,
    cells: impl Iterator<Item = &Cell>,
) -> Result<Vec<QueryResult>, StoreError> {
    const CELL: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("width", Kind::Big),
        Column::new("start", Kind::Big),
    ];
    let mut input = Batch::new(CELL);
    for (tenant, subscriber, event_type, width, start) in cells {
        input.push([
            tenant.as_str().into(),
            (*subscriber).into(),
            event_type.as_str().into(),
            (*width).into(),
            (*start).into(),
        ]);
    }
    // Width and start as a range of one: for equality, a plan made for a nearly empty table may use the index by age, and
    // then reads all rows of that moment for each.
    let rollups = Dialect::of(transaction).look_up(
        "attempt_rollups",
        "attempt_rollups.tenant = input.tenant AND attempt_rollups.subscriber_id = input.subscriber_id \
            AND attempt_rollups.event_type = input.event_type \
            AND (attempt_rollups.width, attempt_rollups.start) >= (input.width, input.start) \
            AND (attempt_rollups.width, attempt_rollups.start) <= (input.width, input.start)",
    );
    let sql = format!(
        "SELECT attempt_rollups.tenant, attempt_rollups.subscriber_id, attempt_rollups.event_type, \
            attempt_rollups.width, attempt_rollups.start, attempt_rollups.counts FROM input {rollups}"
    );
    Ok(input.query(transaction, &sql, []).await?)
}

async fn replace(transaction: &Transaction, cells: BTreeMap<Cell, Tally>) -> Result<(), StoreError> {
    const ROW: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("width", Kind::Big),
        Column::new("start", Kind::Big),
        Column::new("attempts", Kind::Big),
        Column::new("counts", Kind::Bytes),
    ];
    let mut input = Batch::new(ROW);
    for ((tenant, subscriber, event_type, width, start), tally) in cells {
        let attempts = stored_count(tally.attempts());
        input.push([
            tenant.into(),
            subscriber.into(),
            event_type.into(),
            width.into(),
            start.into(),
            attempts.into(),
            tally.to_bytes().into(),
        ]);
    }
    let sql = "INSERT INTO attempt_rollups (tenant, subscriber_id, event_type, width, start, attempts, counts) \
        SELECT tenant, subscriber_id, event_type, width, start, attempts, counts FROM input WHERE true \
        ON CONFLICT (tenant, subscriber_id, event_type, width, start) DO UPDATE SET \
            attempts = excluded.attempts, counts = excluded.counts";
    input.execute(transaction, sql, []).await?;
    Ok(())
}
