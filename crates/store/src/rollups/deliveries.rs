//! Counts of deliveries, by the minute in which they were created.
//!
//! A deployment with many subscribers and little traffic has about one delivery in each row, so adding up its minutes
//! would cost as much as counting its deliveries. So minutes are folded into hours when they are an hour old, and hours
//! into days (of UTC) when they are a day old.

use std::collections::HashMap;

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

/// The ages from which rows are folded, and the widths of the rows that they are folded into, in minutes.
const FOLDS: [(i64, i64); 2] = [(HOUR, HOUR), (DAY, DAY)];

/// The most rows that one statement folds, so that it locks none for long.
const FOLDED_AT_ONCE: i64 = 2_000;

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
    let widths =
        FOLDS.iter().filter(|(age, width)| at < folded_before(now, *age, *width)).map(|(_, width)| *width);
    let width = widths.max().unwrap_or(MINUTE);
    (start_of_row(at, width), width)
}

/// The minute before which rows are folded. A multiple of the width, so that each row is written only once.
const fn folded_before(now: i64, age: i64, width: i64) -> i64 {
    start_of_row(now - age, width)
}

/// Folds rows that are old enough. Returns the number of rows that were folded.
pub(super) async fn fold(database: &Database, now: i64) -> Result<u64, StoreError> {
    let mut folded = 0;
    for (age, width) in FOLDS {
        let before = folded_before(now, age, width);
        folded += match database.dialect() {
            Dialect::Postgres => fold_postgres(database, before, width).await?,
            Dialect::Sqlite => fold_sqlite(database, before, width).await?,
        };
    }
    Ok(folded)
}

async fn fold_postgres(database: &Database, before: i64, width: i64) -> Result<u64, StoreError> {
    let merge = merge("gone");
    // A row that another transaction has locked, or has changed since this statement began, is left for the next call.
    let sql = format!(
        "WITH turn AS MATERIALIZED ( \
            SELECT pg_try_advisory_xact_lock({LOCK}) AS is_ours \
        ), old AS MATERIALIZED ( \
            SELECT ctid AS place FROM rollups \
            WHERE (SELECT is_ours FROM turn) AND minute < $1 AND (minute % $2 <> 0 OR slot <> {FOLDED_SHARD}) LIMIT $3 FOR UPDATE SKIP LOCKED \
        ), gone AS ( \
            DELETE FROM rollups WHERE ctid = ANY (ARRAY(SELECT place FROM old)) \
            RETURNING rollups.* \
        ), merged AS ({merge} RETURNING 1) \
        SELECT (SELECT count(*) FROM gone) AS folded, (SELECT count(*) FROM merged) AS rows"
    );
    let mut folded = 0;
    loop {
        let values = [before.into(), width.into(), FOLDED_AT_ONCE.into()];
        let row = query_one(database.connection(), &sql, values).await?;
        let now: i64 = row.map(|row| column(&row, "folded")).transpose()?.unwrap_or(0);
        folded += u64::try_from(now).unwrap_or(0);
        if now < FOLDED_AT_ONCE {
            return Ok(folded);
        }
    }
}

async fn fold_sqlite(database: &Database, before: i64, width: i64) -> Result<u64, StoreError> {
    let old = format!("minute < $1 AND (minute % $2 <> 0 OR slot <> {FOLDED_SHARD})");
    let merge = merge(&format!("rollups WHERE {old}"));
    let delete = format!("DELETE FROM rollups WHERE {old}");
    let transaction = database.begin().await?;
    execute(&transaction, merge, [before.into(), width.into()]).await?;
    let folded = execute(&transaction, delete, [before.into(), width.into()]).await?;
    transaction.commit().await?;
    Ok(folded)
}

/// The statement that adds the rows of `source` to those that they are folded into.
fn merge(source: &str) -> String {
    let each = |of: &dyn Fn(&&str) -> String| COUNTS.iter().map(of).collect::<Vec<_>>().join(", ");
    let sums = each(&|count| format!("CAST(sum({count}) AS bigint)"));
    let added = each(&|count| format!("{count} = rollups.{count} + excluded.{count}"));
    format!(
        "INSERT INTO rollups ({KEYS}, minute, slot, {}) \
        SELECT {KEYS}, minute - minute % $2, {FOLDED_SHARD}, {sums} FROM {source} \
        GROUP BY {KEYS}, minute - minute % $2 \
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
