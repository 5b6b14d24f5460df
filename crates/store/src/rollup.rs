//! Counts by the minute, written with what they count, and folded into hours and days as they age.
//!
//! A deployment with many subscribers and little traffic has about one delivery in each of its
//! minutes, and adding up its minutes would cost as much as counting its deliveries. So minutes are
//! folded into hours when they are an hour old, and hours into days (of UTC) when they are a day old:
//! however long the history, what is added up is a few thousand rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use postrider_database::{Batch, Column, Dialect, Kind, Writes};
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::attempt_rollup::{DAY, HOUR, MINUTE};
use crate::clock::minute;
use crate::{Store, StoreError};

/// Which rows of the roll-ups this process adds to. A row is locked until the transaction that adds to it has
/// reached the disk: each process has rows of its own, and transactions that overlap take turns on them.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    first: i16,
    turn: Arc<AtomicU16>,
}

impl Shards {
    /// Enough that processes seldom meet, few enough to add up quickly.
    const PROCESSES: u8 = 64;
    const TURNS: u16 = 4;

    pub(crate) fn new(random: u8) -> Self {
        let first = i16::from(random % Self::PROCESSES) * Self::TURNS.cast_signed();
        Self { first, turn: Arc::default() }
    }

    /// The shard that a transaction writes to.
    pub(crate) fn next(&self) -> i16 {
        self.first + (self.turn.fetch_add(1, Ordering::Relaxed) % Self::TURNS).cast_signed()
    }
}

/// What is counted together. Sorted when written, so that two writers do not deadlock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    pub(crate) minute: i64,
    pub(crate) subscriber: SubscriberId,
    pub(crate) event_type: EventType,
}

impl Key {
    /// The minute of `at`: for a delivery's counts, that in which it was made.
    pub(crate) fn new(
        tenant: &TenantId,
        subscriber: SubscriberId,
        event_type: &EventType,
        at: Timestamp,
    ) -> Self {
        Self { tenant: tenant.clone(), minute: minute(at), subscriber, event_type: event_type.clone() }
    }
}

/// What is added to the counts of one key. Negative when a delivery begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) created: i64,
    pub(crate) succeeded: i64,
    pub(crate) dead: i64,
    pub(crate) cancelled: i64,
    /// Attempts of the deliveries that ended.
    pub(crate) spent: i64,
}

/// Adds to `writes` what adds to the counts.
pub(crate) fn add(shard: i16, counts: HashMap<Key, Counts>, writes: &mut Writes) {
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
    let sql = "INSERT INTO rollups \
            (tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent) \
        SELECT tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent \
        FROM input WHERE true \
        ON CONFLICT (tenant, minute, subscriber_id, event_type, slot) DO UPDATE SET \
            created = rollups.created + excluded.created, \
            succeeded = rollups.succeeded + excluded.succeeded, \
            dead = rollups.dead + excluded.dead, \
            cancelled = rollups.cancelled + excluded.cancelled, \
            spent = rollups.spent + excluded.spent";
    writes.push(input, sql);
}

/// From which age on rows are folded, in minutes, and how many minutes then make one.
const FOLDS: [(i64, i64); 2] = [(HOUR, HOUR), (DAY, DAY)];

/// How many rows one statement folds, so that none is locked for long.
const FOLDED_AT_ONCE: i64 = 20_000;

/// What rows are counted by besides time and slot, and what is added up.
const KEYS: &str = "tenant, subscriber_id, event_type";
const COUNTS: [&str; 5] = ["created", "succeeded", "dead", "cancelled", "spent"];

/// The first minute of the row that holds a minute, be it folded already or not, and how many it holds.
pub(crate) fn row_of(at: i64, now: i64) -> (i64, i64) {
    let width = FOLDS.iter().filter(|(age, width)| at < edge(now, *age, *width)).map(|(_, width)| *width);
    let width = width.max().unwrap_or(MINUTE);
    (at - at.rem_euclid(width), width)
}

/// What is before this is folded: whole rows only, so that none is written anew each time.
const fn edge(now: i64, age: i64, width: i64) -> i64 {
    let edge = now - age;
    edge - edge.rem_euclid(width)
}

impl Store {
    /// Folds old minutes of the statistics into hours, and old hours into days, and removes what is too
    /// old of the roll-ups of attempts. Any number of processes
    /// may do so at the same time, at any time; every few minutes is often enough.
    ///
    /// Returns how many rows were folded.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn fold_statistics(&self) -> Result<u64, StoreError> {
        let now = minute(self.ids.clock().now());
        let mut folded = 0;
        for (age, width) in FOLDS {
            folded += match self.database.dialect() {
                Dialect::Postgres => self.fold_postgres(edge(now, age, width), width).await?,
                Dialect::Sqlite => self.fold_sqlite(edge(now, age, width), width).await?,
            };
        }
        self.remove_old_attempt_rollups().await?;
        Ok(folded)
    }

    async fn fold_postgres(&self, before: i64, width: i64) -> Result<u64, StoreError> {
        let merge = merge("gone");
        // Rows that somebody is writing to, or has written to since this began, are left for the next time.
        let sql = format!(
            "WITH old AS MATERIALIZED ( \
                SELECT ctid AS place FROM rollups \
                WHERE minute < $1 AND (minute % $2 <> 0 OR slot <> 0) LIMIT $3 FOR UPDATE SKIP LOCKED \
            ), gone AS ( \
                DELETE FROM rollups WHERE ctid = ANY (ARRAY(SELECT place FROM old)) \
                RETURNING rollups.* \
            ), merged AS ({merge} RETURNING 1) \
            SELECT (SELECT count(*) FROM gone) AS folded, (SELECT count(*) FROM merged) AS rows"
        );
        let connection = self.database.connection();
        let mut folded = 0;
        loop {
            let values: [Value; 3] = [before.into(), width.into(), FOLDED_AT_ONCE.into()];
            let statement = Statement::from_sql_and_values(connection.get_database_backend(), &sql, values);
            let row = connection.query_one_raw(statement).await?;
            let now: i64 = row.map(|row| row.try_get("", "folded")).transpose()?.unwrap_or(0);
            folded += u64::try_from(now).unwrap_or(0);
            if now < FOLDED_AT_ONCE {
                return Ok(folded);
            }
        }
    }

    async fn fold_sqlite(&self, before: i64, width: i64) -> Result<u64, StoreError> {
        let old = "minute < $1 AND (minute % $2 <> 0 OR slot <> 0)";
        let merge = merge(&format!("rollups WHERE {old}"));
        let delete = format!("DELETE FROM rollups WHERE {old}");
        let transaction = self.database.begin().await?;
        let mut folded = 0;
        for sql in [merge, delete] {
            let values: [Value; 2] = [before.into(), width.into()];
            let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
            folded = transaction.execute_raw(statement).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(folded)
    }
}

/// Adds rows of `source` to those that they are folded into.
fn merge(source: &str) -> String {
    let each = |of: &dyn Fn(&&str) -> String| COUNTS.iter().map(of).collect::<Vec<_>>().join(", ");
    let sums = each(&|count| format!("CAST(sum({count}) AS bigint)"));
    let added = each(&|count| format!("{count} = rollups.{count} + excluded.{count}"));
    format!(
        "INSERT INTO rollups ({KEYS}, minute, slot, {}) \
        SELECT {KEYS}, minute - minute % $2, 0, {sums} FROM {source} GROUP BY {KEYS}, minute - minute % $2 \
        ON CONFLICT ({KEYS}, minute, slot) DO UPDATE SET {added}",
        COUNTS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_found_in_the_row_that_holds_it() {
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
