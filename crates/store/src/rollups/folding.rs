//! Folding: adding deltas to the rows that readers read, and days that are too old to those of the past.
//!
//! One process at a time does that, so it is the only writer of `rollups`.

use std::collections::HashMap;
use std::time::Instant;

use postrider_database::sql::{column, query_all, query_one};
use postrider_database::{Batch, Column, Database, Dialect, Kind, Transaction};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::cells::{self, ALL_EVENT_TYPES, ALL_SUBSCRIBERS, CellKey, Cells, Content};
use super::counted::Counted;
use super::deltas::{Entry, unpack};
use super::span::Span;
use crate::StoreError;
use crate::turn::Turn;

/// The most deltas and the most of their entries that one transaction reads, so that it is short.
const DELTAS_AT_ONCE: i64 = 2_000;
const ENTRIES_AT_ONCE: i64 = 50_000;

/// The most subscribers, event types and minutes that one transaction counts. Each leads to three rows of its own, and on
/// SQLite other writers wait for that long.
const fn most_keys(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Postgres => 10_000,
        Dialect::Sqlite => 2_000,
    }
}

/// Deltas are folded when the oldest one is as old as that, or when there are as many entries: the longer they wait, the
/// more of them meet in a row, and the more there is for readers to add up.
const WAIT_MILLIS: i64 = 30_000;
const MOST_WAITING: i64 = 30_000;

/// The most days that one transaction adds to the past.
const DAYS_AT_ONCE: i64 = 500;

/// The result of [`crate::Store::fold_statistics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The number of deltas that were folded.
    pub deltas: u64,
    /// The number of rows that could not be read and were left out. Such a row means a bug in this program or damage in
    /// the database; leaving it out lets the deltas after it be folded.
    pub unreadable: u64,
}

/// Returns whether enough deltas are waiting, or one has waited for long enough.
pub(super) async fn is_due(database: &Database) -> Result<bool, StoreError> {
    let now = database.dialect().now();
    let sql = format!(
        "SELECT CAST(coalesce(sum(entries), 0) AS bigint) AS entries, \
            coalesce(min(written_at) <= {now} - $2, false) AS is_old \
        FROM (SELECT entries, written_at FROM rollup_deltas ORDER BY seq LIMIT $1) AS oldest"
    );
    let values = [DELTAS_AT_ONCE.into(), WAIT_MILLIS.into()];
    let Some(row) = query_one(&database.reads(), sql, values).await? else { return Ok(false) };
    Ok(column::<bool>(&row, "is_old")? || column::<i64>(&row, "entries")? >= MOST_WAITING)
}

/// Folds deltas until there are none or until `until`, unless another process is folding.
pub(super) async fn fold(database: &Database, now: i64, until: Instant) -> Result<Folded, StoreError> {
    let mut all = Folded::default();
    // Most calls find nothing. They need no transaction, which on SQLite would lock the database.
    while Instant::now() < until
        && query_one(database.connection(), "SELECT seq FROM rollup_deltas LIMIT 1", []).await?.is_some()
        && let Some(folded) = fold_batch(database, now).await?
    {
        all.deltas += folded.deltas;
        all.unreadable += folded.unreadable;
        if folded.deltas == 0 {
            break;
        }
    }
    Ok(all)
}

/// Folds the oldest deltas in one transaction. Returns `None` if another process is folding.
async fn fold_batch(database: &Database, now: i64) -> Result<Option<Folded>, StoreError> {
    let transaction = database.begin().await?;
    if !Turn::FOLDING.take(&transaction).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let most = most_keys(database.dialect());
    let mut folded = Folded::default();
    let mut counted: HashMap<(String, Uuid, String, i64), Counted> = HashMap::new();
    let mut done = Vec::new();
    for row in oldest(&transaction).await? {
        if counted.len() >= most {
            break;
        }
        done.push(column(&row, "seq")?);
        let tenant: String = column(&row, "tenant")?;
        let bytes: Vec<u8> = column(&row, "counts")?;
        let Some(entries) = decode(&bytes) else {
            folded.unreadable += 1;
            continue;
        };
        for (entry, count) in entries {
            let key = (tenant.clone(), entry.subscriber, entry.event_type.to_owned(), entry.minute);
            counted.entry(key).or_default().merge(&count);
        }
    }
    folded.deltas = done.len() as u64;
    remove(&transaction, done).await?;
    let mut cells = Cells::default();
    for ((tenant, subscriber, event_type, minute), counted) in counted {
        cells.count(&tenant, (subscriber, &event_type, minute), &counted, now);
    }
    folded.unreadable += cells.write(&transaction).await?;
    transaction.commit().await?;
    Ok(Some(folded))
}

/// Reads the entries of a delta. `None` if any of them cannot be read.
fn decode(bytes: &[u8]) -> Option<Vec<(Entry<'_>, Counted)>> {
    unpack(bytes)?.into_iter().map(|entry| Some((entry, entry.counted.decode()?))).collect()
}

/// Reads the oldest deltas, up to the limits.
async fn oldest(transaction: &Transaction) -> Result<Vec<QueryResult>, StoreError> {
    let sql = "SELECT seq, tenant, counts FROM ( \
            SELECT seq, tenant, counts, sum(entries) OVER (ORDER BY seq) - entries AS before FROM ( \
                SELECT seq, tenant, counts, entries FROM rollup_deltas ORDER BY seq LIMIT $1 \
            ) AS oldest \
        ) AS added WHERE before < $2 ORDER BY seq";
    Ok(query_all(transaction, sql, [DELTAS_AT_ONCE.into(), ENTRIES_AT_ONCE.into()]).await?)
}

/// Removes deltas. By their numbers: one with a smaller number may be committed later.
async fn remove(transaction: &Transaction, deltas: Vec<i64>) -> Result<(), StoreError> {
    const SEQ: &[Column] = &[Column::new("seq", Kind::Big)];
    let mut input = Batch::new(SEQ);
    for seq in deltas {
        input.push([seq.into()]);
    }
    let sql = match Dialect::of(transaction) {
        Dialect::Postgres => "DELETE FROM rollup_deltas WHERE seq = ANY (ARRAY(SELECT seq FROM input))",
        Dialect::Sqlite => "DELETE FROM rollup_deltas WHERE seq IN (SELECT seq FROM input)",
    };
    input.execute(transaction, sql, []).await?;
    Ok(())
}

/// Adds days that are past their retention to the past, until `until`, unless another process is folding. Returns whether
/// none is left.
pub(super) async fn add_to_past(database: &Database, now: i64, until: Instant) -> Result<bool, StoreError> {
    let before = now - Span::Day.retention();
    let find = format!(
        "SELECT {} FROM rollups WHERE span = $1 AND span >= 0 AND start < $2 ORDER BY span, start LIMIT $3",
        cells::ROW
    );
    let values = || [Span::Day.code().into(), before.into(), DAYS_AT_ONCE.into()];
    while Instant::now() < until {
        // Most calls find nothing; see above.
        if query_one(database.connection(), &find, values()).await?.is_none() {
            return Ok(true);
        }
        let transaction = database.begin().await?;
        if !Turn::FOLDING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        let mut days = Vec::new();
        let mut past: HashMap<(String, Uuid, String), (i64, Content)> = HashMap::new();
        for row in query_all(&transaction, &find, values()).await? {
            let key = CellKey::read(&row)?;
            if let Some(content) = Content::read(&row)? {
                merge(&mut past, &key, &content);
            }
            days.push(key);
        }
        let earlier = read_past(&transaction, &past).await?;
        for (key, content) in &earlier {
            merge(&mut past, key, content);
        }
        cells::delete(&transaction, days.iter().chain(earlier.iter().map(|(key, _)| key))).await?;
        let mut cells = Cells::default();
        for ((tenant, subscriber, event_type), (start, content)) in past {
            cells.add(CellKey { tenant, subscriber, event_type, span: Span::Past, start }, &content);
        }
        cells.write(&transaction).await?;
        transaction.commit().await?;
    }
    Ok(false)
}

/// Adds a row to what there is of the past. That of a subscriber or an event type names its last day, by which it is
/// removed; that of a tenant stays.
fn merge(past: &mut HashMap<(String, Uuid, String), (i64, Content)>, key: &CellKey, content: &Content) {
    let name = (key.tenant.clone(), key.subscriber, key.event_type.clone());
    let is_of_tenant = key.subscriber == ALL_SUBSCRIBERS && key.event_type == ALL_EVENT_TYPES;
    let last = if is_of_tenant { i64::MAX } else { key.start };
    let (start, sum) = past.entry(name).or_insert((last, Content::Whole(Counted::default())));
    *start = last.max(*start);
    sum.merge(content);
}

/// Reads the rows of the past with the same tenant, subscriber and event type, of which there is at most one each.
async fn read_past(
    transaction: &Transaction,
    names: &HashMap<(String, Uuid, String), (i64, Content)>,
) -> Result<Vec<(CellKey, Content)>, StoreError> {
    let keys: Vec<_> = names
        .keys()
        .map(|(tenant, subscriber, event_type)| CellKey {
            tenant: tenant.clone(),
            subscriber: *subscriber,
            event_type: event_type.clone(),
            span: Span::Past,
            start: i64::MIN,
        })
        .collect();
    let rollups = Dialect::of(transaction).look_up(
        "rollups",
        "rollups.tenant = input.tenant AND rollups.subscriber_id = input.subscriber_id \
            AND rollups.event_type = input.event_type AND rollups.span = input.span",
    );
    let sql = format!("SELECT {} FROM input {rollups}", cells::columns_of("rollups"));
    let rows = cells::batch(keys.iter()).query(transaction, &sql, []).await?;
    let read = |row| Ok(Content::read(row)?.map(|content| Ok((CellKey::read(row)?, content))));
    rows.iter().filter_map(|row| read(row).transpose()).map(Result::flatten).collect()
}
