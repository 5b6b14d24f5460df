//! Roll-ups of attempts: written as deltas with the outcomes, folded soon after, and kept by the
//! minute, the hour and the day.
//!
//! A delta is a row of its own that nobody else writes to, so that recording waits for no lock.
//! Folding adds deltas to the rows that hold their minute, hour and day (of UTC), and to those that sum
//! over all subscribers and all event types. So whatever is asked for, it is one row a point.

use std::collections::{BTreeMap, HashMap};

use postrider_core::{SubscriberId, TenantId};
use postrider_database::{Batch, Column, Dialect, Kind, Writes};
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::clock::minute;
use crate::outcome::Attempt;
use crate::rollup::Key;
use crate::row::column;
use crate::tally::Tally;
use crate::work::DeliveryRef;
use crate::{Store, StoreError};

/// How many minutes a row holds.
pub(crate) const MINUTE: i64 = 1;
pub(crate) const HOUR: i64 = 60;
pub(crate) const DAY: i64 = 24 * HOUR;

/// For how many minutes rows are kept: by the minute for three days, by the hour for 62. Who reads is
/// promised a day or two less, so that no clock and no rounding finds them gone.
const KEPT: [(i64, i64); 2] = [(MINUTE, 3 * DAY), (HOUR, 62 * DAY)];

/// How many deltas one transaction folds, so that it is short.
const FOLDED_AT_ONCE: i64 = 2_000;

/// How many old rows one statement removes.
const REMOVED_AT_ONCE: i64 = 20_000;

/// Who folds holds this lock ("postride").
const LOCK: i64 = 0x706f_7374_7269_6465;

/// What stands for all subscribers, and all event types, in a row's key. Neither can be one.
pub(crate) const ALL_SUBSCRIBERS: Uuid = Uuid::nil();
pub(crate) const ALL_EVENTS: &str = "";

/// What came of folding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many deltas were folded.
    pub deltas: u64,
    /// How many rows could not be read, and were left out. There is never one, but for a mistake in
    /// this program or damage in the database; it must not keep what follows from being folded.
    pub unreadable: u64,
}

/// What one row counts: tenant, subscriber, event type, width and beginning, in minutes. Sorted when
/// written, as all rows are.
type Cell = (String, Uuid, String, i64, i64);

/// Counts an attempt in the minute in which it began; and of the first one how long its delivery waited
/// for it, in the minute in which that was made.
pub(crate) fn count(
    tallies: &mut HashMap<Key, Tally>,
    delivery: &DeliveryRef,
    attempt: &Attempt,
    is_first: bool,
) {
    let key = |at| Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, at);
    tallies.entry(key(attempt.started_at)).or_default().attempt(attempt);
    if is_first {
        let waited = tallies.entry(key(delivery.created_at)).or_default();
        waited.wait(delivery.created_at, attempt.started_at);
    }
}

/// Adds deltas to `writes`.
pub(crate) fn add(tallies: HashMap<Key, Tally>, writes: &mut Writes) {
    const DELTA: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("minute", Kind::Big),
        Column::new("attempts", Kind::Big),
        Column::new("counts", Kind::Bytes),
    ];
    let mut input = Batch::new(DELTA);
    for (key, tally) in tallies {
        input.push([
            key.tenant.as_str().into(),
            key.subscriber.uuid().into(),
            key.event_type.as_str().into(),
            key.minute.into(),
            stored(tally.attempts()).into(),
            tally.to_bytes().into(),
        ]);
    }
    let sql = "INSERT INTO attempt_deltas (tenant, subscriber_id, event_type, minute, attempts, counts) \
        SELECT tenant, subscriber_id, event_type, minute, attempts, counts FROM input";
    writes.push(input, sql);
}

/// What is to be read: rows of a width, and the deltas that will be folded into them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) subscriber: Option<SubscriberId>,
    pub(crate) event: Option<&'a str>,
    /// How many minutes a row holds.
    pub(crate) width: i64,
    /// From this minute on.
    pub(crate) from: i64,
    /// Before this minute.
    pub(crate) to: i64,
}

impl Store {
    /// The tallies of these minutes, by the minute in which their row begins or their delta was made.
    pub(crate) async fn tallies(&self, read: Read<'_>) -> Result<Vec<(i64, Tally)>, StoreError> {
        // One statement sees what was folded and what was not at one moment: nothing is there twice.
        let sql = "SELECT start AS minute, counts FROM attempt_rollups \
                WHERE tenant = $1 AND subscriber_id = $2 AND event_type = $3 AND width = $4 \
                    AND start >= $5 AND start < $6 \
            UNION ALL SELECT minute, counts FROM attempt_deltas \
                WHERE tenant = $1 AND ($2 = $7 OR subscriber_id = $2) AND ($3 = $8 OR event_type = $3) \
                    AND minute >= $5 AND minute < $6";
        let values: [Value; 8] = [
            read.tenant.as_str().into(),
            read.subscriber.map_or(ALL_SUBSCRIBERS, SubscriberId::uuid).into(),
            read.event.unwrap_or(ALL_EVENTS).into(),
            read.width.into(),
            read.from.into(),
            read.to.into(),
            ALL_SUBSCRIBERS.into(),
            ALL_EVENTS.into(),
        ];
        let connection = self.database.connection();
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        let rows = connection.query_all_raw(statement).await?;
        rows.iter().map(|row| Ok((column(row, "minute")?, tally(row)?))).collect()
    }

    /// Folds the roll-ups' deltas. Any number of processes may do so at the same time, at any time; every
    /// some seconds is often enough. What is read is the same before and after.
    ///
    /// # Errors
    /// If the database is away. What is folded by then stays folded, and nothing is lost.
    pub async fn fold_attempts(&self) -> Result<Folded, StoreError> {
        let mut all = Folded::default();
        // What finds nothing to do writes nothing.
        let connection = self.database.connection();
        let sql = "SELECT seq FROM attempt_deltas LIMIT 1";
        let any = Statement::from_string(connection.get_database_backend(), sql);
        if connection.query_one_raw(any).await?.is_none() {
            return Ok(all);
        }
        while let Some(folded) = self.fold_some_attempts().await? {
            all.deltas += folded.deltas;
            all.unreadable += folded.unreadable;
            if folded.deltas < FOLDED_AT_ONCE.unsigned_abs() {
                break;
            }
        }
        Ok(all)
    }

    /// None if somebody else is at it.
    async fn fold_some_attempts(&self) -> Result<Option<Folded>, StoreError> {
        let transaction = self.database.begin().await?;
        if !lock(&transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let sql = "DELETE FROM attempt_deltas WHERE seq IN (SELECT seq FROM attempt_deltas ORDER BY seq LIMIT $1) \
            RETURNING tenant, subscriber_id, event_type, minute, counts";
        let backend = transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, [FOLDED_AT_ONCE.into()]);
        let deltas = transaction.query_all_raw(statement).await?;
        let mut cells: BTreeMap<Cell, Tally> = BTreeMap::new();
        let mut unreadable = 0;
        for row in &deltas {
            let Ok(tally) = tally(row) else {
                unreadable += 1;
                continue;
            };
            for cell in cells_of(row)? {
                cells.entry(cell).or_default().merge(&tally);
            }
        }
        for row in existing(&transaction, cells.keys()).await? {
            let Ok(tally) = tally(&row) else {
                unreadable += 1;
                continue;
            };
            let cell = (
                column(&row, "tenant")?,
                column(&row, "subscriber_id")?,
                column(&row, "event_type")?,
                column(&row, "width")?,
                column(&row, "start")?,
            );
            cells.entry(cell).or_default().merge(&tally);
        }
        replace(&transaction, cells).await?;
        transaction.commit().await?;
        Ok(Some(Folded { deltas: deltas.len() as u64, unreadable }))
    }

    /// Removes rows by the minute and by the hour that are too old to be asked for.
    ///
    /// Returns how many were removed.
    pub(crate) async fn remove_old_attempt_rollups(&self) -> Result<u64, StoreError> {
        let now = minute(self.ids.clock().now());
        let sql = "DELETE FROM attempt_rollups WHERE (tenant, subscriber_id, event_type, width, start) IN ( \
            SELECT tenant, subscriber_id, event_type, width, start FROM attempt_rollups \
            WHERE width = $1 AND start < $2 LIMIT $3)";
        let connection = self.database.connection();
        let mut removed = 0;
        for (width, kept) in KEPT {
            loop {
                let values: [Value; 3] = [width.into(), (now - kept).into(), REMOVED_AT_ONCE.into()];
                let statement =
                    Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
                let gone = connection.execute_raw(statement).await?.rows_affected();
                removed += gone;
                if gone < REMOVED_AT_ONCE.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

/// Whether it is this transaction's to fold, until its end. On SQLite any transaction that writes is alone.
async fn lock(transaction: &DatabaseTransaction) -> Result<bool, StoreError> {
    if Dialect::of(transaction) == Dialect::Sqlite {
        return Ok(true);
    }
    let sql = "SELECT pg_try_advisory_xact_lock($1) AS locked";
    let backend = transaction.get_database_backend();
    let row = transaction.query_one_raw(Statement::from_sql_and_values(backend, sql, [LOCK.into()])).await?;
    row.map_or(Ok(false), |row| column(&row, "locked"))
}

/// Where a delta goes: to its own rows, and to those of all subscribers and all event types.
fn cells_of(row: &QueryResult) -> Result<impl Iterator<Item = Cell>, StoreError> {
    let tenant: String = column(row, "tenant")?;
    let subscriber: Uuid = column(row, "subscriber_id")?;
    let event: String = column(row, "event_type")?;
    let minute: i64 = column(row, "minute")?;
    Ok([MINUTE, HOUR, DAY].into_iter().flat_map(move |width| {
        let start = minute - minute.rem_euclid(width);
        let cell = |subscriber, event: &str| (tenant.clone(), subscriber, event.to_owned(), width, start);
        [
            cell(subscriber, &event),
            cell(subscriber, ALL_EVENTS),
            cell(ALL_SUBSCRIBERS, &event),
            cell(ALL_SUBSCRIBERS, ALL_EVENTS),
        ]
    }))
}

/// What is stored of these rows already.
async fn existing(
    transaction: &DatabaseTransaction,
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
    for (tenant, subscriber, event, width, start) in cells {
        input.push([
            tenant.as_str().into(),
            (*subscriber).into(),
            event.as_str().into(),
            (*width).into(),
            (*start).into(),
        ]);
    }
    let rolled = Dialect::of(transaction).look_up(
        "attempt_rollups",
        "attempt_rollups.tenant = input.tenant AND attempt_rollups.subscriber_id = input.subscriber_id \
            AND attempt_rollups.event_type = input.event_type AND attempt_rollups.width = input.width \
            AND attempt_rollups.start = input.start",
    );
    let sql = format!("SELECT attempt_rollups.* FROM input {rolled}");
    Ok(input.query(transaction, &sql, []).await?)
}

async fn replace(transaction: &DatabaseTransaction, cells: BTreeMap<Cell, Tally>) -> Result<(), StoreError> {
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
    for ((tenant, subscriber, event, width, start), tally) in cells {
        let attempts = stored(tally.attempts());
        input.push([
            tenant.into(),
            subscriber.into(),
            event.into(),
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

fn tally(row: &QueryResult) -> Result<Tally, StoreError> {
    let bytes: Vec<u8> = column(row, "counts")?;
    Tally::from_bytes(&bytes).ok_or_else(|| {
        postrider_database::DatabaseError::inconsistent("attempt_rollups", "counts", "these are no counts")
            .into()
    })
}

fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
