//! Counts of deliveries, by the minute in which they were created.
//!
//! A deployment with many subscribers and little traffic has about one delivery in each row, so adding up its minutes
//! would cost as much as counting its deliveries. So minutes are folded into hours when they are an hour old, and hours
//! into days (of UTC) when they are a day old.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use postrider_database::sql::{column, execute, query_one};
use postrider_database::{Batch, Column, Database, Dialect, Guarded, Kind, Writes};

use super::clock::{DAY, HOUR, MINUTE, start_of_row};
use super::key::Key;
use crate::StoreError;

/// What is added to the counts of one key. Negative when a retry makes an ended delivery pending again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) created: i64,
    pub(crate) succeeded: i64,
    pub(crate) dead: i64,
    pub(crate) cancelled: i64,
    /// The attempts of the deliveries that ended.
    pub(crate) spent: i64,
}

/// Adds counts to `writes`, in rows of `shard`.
pub(crate) fn add(shard: i16, counts: HashMap<Key, Counts>, writes: &mut Writes) {
    writes.push(rows(shard, counts), ADD);
}

/// Adds counts to `guarded`, after what it checks so far.
pub(crate) fn add_exact(shard: i16, counts: HashMap<Key, Counts>, guarded: &mut Guarded) {
    guarded.push_exact(rows(shard, counts), ADD);
}

/// Writes one row for each row of its input.
const ADD: &str = "INSERT INTO rollups \
        (tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent) \
    SELECT tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent \
    FROM input WHERE true \
    ON CONFLICT (tenant, minute, subscriber_id, event_type, slot) DO UPDATE SET \
        created = rollups.created + excluded.created, \
        succeeded = rollups.succeeded + excluded.succeeded, \
        dead = rollups.dead + excluded.dead, \
        cancelled = rollups.cancelled + excluded.cancelled, \
        spent = rollups.spent + excluded.spent";

/// In the order of their keys, so that two transactions do not deadlock.
fn rows(shard: i16, counts: HashMap<Key, Counts>) -> Batch {
    const COUNTS: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("minute", Kind::Big),
        Column::new("slot", Kind::Small),
        Column::new("created", Kind::Big),
        Column::new("succeeded", Kind::Big),
        Column::new("dead", Kind::Big),
        Column::new("cancelled", Kind::Big),
        Column::new("spent", Kind::Big),
    ];
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut input = Batch::new(COUNTS);
    for (key, counts) in sorted {
        input.push([
            key.tenant.as_str().into(),
            key.subscriber.uuid().into(),
            key.event_type.as_str().into(),
            key.minute.into(),
            shard.into(),
            counts.created.into(),
            counts.succeeded.into(),
            counts.dead.into(),
            counts.cancelled.into(),
            counts.spent.into(),
        ]);
    }
    input
}

/// The widths of the rows into which rows are folded, in minutes. Rows are folded when they are as old as that.
const WIDTHS: [i64; 2] = [HOUR, DAY];

/// The most rows that one statement folds, so that it locks none for long.
const FOLDED_AT_ONCE: u64 = 2_000;

/// How much of the table one statement looks at: pages of 8 KiB on PostgreSQL, `rowid`s on SQLite. No index leads to the
/// few rows that are still to be folded.
const PAGES: i64 = 200;
const ROWIDS: i64 = 10_000;

/// The shard of folded rows, to which no process adds.
const FOLDED_SHARD: i16 = 0;

/// The PostgreSQL advisory lock of the process that folds: "rollups" in ASCII. Two would wait for each other's rows.
const LOCK: i64 = 0x0072_6f6c_6c75_7073;

/// The columns of a row's key besides time and shard.
const KEYS: &str = "tenant, subscriber_id, event_type";

/// The columns that are added up.
const COUNTS: [&str; 5] = ["created", "succeeded", "dead", "cancelled", "spent"];

/// The first minute of the row that contains the minute `at`, whether it has been folded or not, and the row's width.
pub(crate) fn row_of(at: i64, now: i64) -> (i64, i64) {
    let width = WIDTHS.into_iter().filter(|width| at < folded_before(now, *width)).max().unwrap_or(MINUTE);
    (start_of_row(at, width), width)
}

/// The minute before which rows are folded. A multiple of the width, so that each row is written only once.
const fn folded_before(now: i64, width: i64) -> i64 {
    start_of_row(now - width, width)
}

/// Where folding goes on: the next page on PostgreSQL, the next `rowid` on SQLite.
#[derive(Debug, Default)]
pub(crate) struct Place(AtomicI64);

/// Folds rows that are old enough, from `place` on, until the end of the table or `until`. Returns the number of rows that
/// were folded.
pub(super) async fn fold(
    database: &Database,
    place: &Place,
    now: i64,
    until: Instant,
) -> Result<u64, StoreError> {
    let (mut folded, mut from) = (0, place.0.load(Ordering::Relaxed));
    while Instant::now() < until {
        let step = match database.dialect() {
            Dialect::Postgres => fold_postgres(database, from, now).await?,
            Dialect::Sqlite => fold_sqlite(database, from, now).await?,
        };
        let Some(step) = step else { break };
        folded += step.folded;
        // What exceeded the limit is still there.
        if step.folded >= FOLDED_AT_ONCE {
            continue;
        }
        from = step.next.unwrap_or(0);
        if step.next.is_none() {
            break;
        }
    }
    place.0.store(from, Ordering::Relaxed);
    Ok(folded)
}

/// What one statement did.
struct Step {
    folded: u64,
    /// Where the next one begins; `None` at the end of the table.
    next: Option<i64>,
}

/// Returns `None` while another process folds.
async fn fold_postgres(database: &Database, from: i64, now: i64) -> Result<Option<Step>, StoreError> {
    let (old, merge) = (old(), merge("gone"));
    // A row that another transaction has locked, or has changed since this statement began, is left for the next call.
    let sql = format!(
        "WITH turn AS MATERIALIZED ( \
            SELECT pg_try_advisory_xact_lock({LOCK}) AS is_ours \
        ), old AS MATERIALIZED ( \
            SELECT ctid AS place FROM rollups \
            WHERE (SELECT is_ours FROM turn) AND ctid >= format('(%s,0)', $3::bigint)::tid \
                AND ctid < format('(%s,0)', $3::bigint + {PAGES})::tid AND {old} \
            LIMIT {FOLDED_AT_ONCE} FOR UPDATE SKIP LOCKED \
        ), gone AS ( \
            DELETE FROM rollups WHERE ctid = ANY (ARRAY(SELECT place FROM old)) \
            RETURNING rollups.* \
        ), merged AS ({merge} RETURNING 1) \
        SELECT (SELECT is_ours FROM turn) AS is_ours, (SELECT count(*) FROM gone) AS folded, \
            (SELECT count(*) FROM merged) AS rows, \
            ($3::bigint + {PAGES}) * current_setting('block_size')::bigint < pg_relation_size('rollups') AS goes_on"
    );
    let values = [folded_before(now, HOUR).into(), folded_before(now, DAY).into(), from.into()];
    let Some(row) = query_one(database.connection(), &sql, values).await? else { return Ok(None) };
    if !column::<bool>(&row, "is_ours")? {
        return Ok(None);
    }
    let folded = u64::try_from(column::<i64>(&row, "folded")?).unwrap_or(0);
    let next = column::<bool>(&row, "goes_on")?.then_some(from + PAGES);
    Ok(Some(Step { folded, next }))
}

async fn fold_sqlite(database: &Database, from: i64, now: i64) -> Result<Option<Step>, StoreError> {
    // Read first: a table without rows must not cost a transaction.
    let last = "SELECT max(rowid) AS last FROM (SELECT rowid FROM rollups WHERE rowid >= $1 ORDER BY rowid LIMIT $2)";
    let last = query_one(database.connection(), last, [from.into(), ROWIDS.into()]).await?;
    let Some(last) = last.map_or(Ok(None), |row| column::<Option<i64>>(&row, "last"))? else {
        return Ok(Some(Step { folded: 0, next: None }));
    };
    // The same rows in both statements: what the first one writes is not old.
    let chosen = format!(
        "rollups WHERE rowid IN (SELECT rowid FROM rollups WHERE rowid BETWEEN $3 AND $4 AND {} \
            ORDER BY rowid LIMIT {FOLDED_AT_ONCE})",
        old()
    );
    let before = (folded_before(now, HOUR), folded_before(now, DAY));
    let values = || [before.0.into(), before.1.into(), from.into(), last.into()];
    let transaction = database.begin().await?;
    execute(&transaction, merge(&chosen), values()).await?;
    let folded = execute(&transaction, format!("DELETE FROM {chosen}"), values()).await?;
    transaction.commit().await?;
    Ok(Some(Step { folded, next: Some(last + 1) }))
}

/// The width of the row into which a row is folded. `$1` is the minute before which rows are folded into hours, `$2` that
/// before which they are folded into days.
fn width() -> String {
    format!("CASE WHEN minute < $2 THEN {DAY} ELSE {HOUR} END")
}

/// Whether a row is to be folded.
fn old() -> String {
    format!("minute < $1 AND (slot <> {FOLDED_SHARD} OR minute % {} <> 0)", width())
}

/// The statement that adds the rows of `source` to those that they are folded into.
fn merge(source: &str) -> String {
    let each = |of: &dyn Fn(&&str) -> String| COUNTS.iter().map(of).collect::<Vec<_>>().join(", ");
    let sums = each(&|count| format!("CAST(sum({count}) AS bigint)"));
    let added = each(&|count| format!("{count} = rollups.{count} + excluded.{count}"));
    let start = format!("minute - minute % {}", width());
    format!(
        "INSERT INTO rollups ({KEYS}, minute, slot, {}) \
        SELECT {KEYS}, {start}, {FOLDED_SHARD}, {sums} FROM {source} \
        GROUP BY {KEYS}, {start} \
        ON CONFLICT ({KEYS}, minute, slot) DO UPDATE SET {added}",
        COUNTS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_of_finds_the_row_that_contains_a_minute() {
        let now = 1000 * DAY + 13 * HOUR + 30;
        for (at, row) in [
            (now, now),
            (now - 89, now - 89),
            // The last whole hour that is an hour old.
            (now - 91, now - 150),
            (now - DAY, now - DAY - 30),
            (999 * DAY, 999 * DAY),
            (999 * DAY + 61, 999 * DAY + HOUR),
            (998 * DAY + 61, 998 * DAY),
            (-1, -DAY),
        ] {
            assert_eq!(row_of(at, now).0, row, "{at}");
        }
    }
}
