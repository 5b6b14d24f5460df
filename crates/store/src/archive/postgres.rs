//! Dropping a partition whose rows have been copied.

use postrider_database::sql::{column, query_one};
use postrider_database::{DatabaseError, Transaction};
use sea_orm::ConnectionTrait;

use super::{OldDay, Removal};
use crate::retention::Stays;
use crate::row::PENDING;
use crate::{Store, StoreError};

/// A moment in the history of a PostgreSQL database: rows that were written by transactions that ended before it can be told
/// from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The id of the oldest transaction that was still running. It wraps around, like `xmin`.
    transaction: u32,
}

/// What a transaction that reads a whole partition needs.
const FOR_READING: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
    SET LOCAL enable_seqscan = on";

impl Store {
    /// Returns a mark of the present moment in a PostgreSQL database.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn mark(&self) -> Result<Mark, StoreError> {
        let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS transaction";
        let row = query_one(&self.database.reads(), sql, []).await?;
        let text: String = row.map_or_else(|| Ok(String::new()), |row| column(&row, "transaction"))?;
        // The epoch is cut off: rows have none.
        let transaction = text.parse().map(|number: u64| number & u64::from(u32::MAX)).ok();
        let transaction = transaction.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
            DatabaseError::inconsistent("pg_current_snapshot", "xmin", text, "not the id of a transaction")
        })?;
        Ok(Mark { transaction })
    }

    /// Returns whether a day of a PostgreSQL database has rows that may have been written after this mark.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or does not have the day any more.
    pub async fn day_has_changed(&self, day: &OldDay, mark: Mark) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        transaction.execute_unprepared(FOR_READING).await?;
        let changed = has_changed(&transaction, day, mark).await?;
        transaction.rollback().await?;
        Ok(changed)
    }

    /// Drops a day of a PostgreSQL database whose rows were all read after this mark. The check and the drop are one
    /// transaction, during which others can read the day but not change it; it takes as long as reading the day's rows
    /// without their payloads.
    ///
    /// # Errors
    /// Fails if the database refuses it, such as for a lack of rights.
    pub async fn drop_day(&self, day: &OldDay, mark: Mark) -> Result<Removal, StoreError> {
        match drop_day(self, day, mark).await {
            Ok(done) => Ok(done),
            Err(error) if error.is_missing_table() => Ok(Removal::Gone),
            Err(error) if error.is_unavailable() => Ok(Removal::Busy),
            Err(error) => Err(error.into()),
        }
    }
}

async fn drop_day(store: &Store, day: &OldDay, mark: Mark) -> Result<Removal, DatabaseError> {
    let transaction = store.database.begin().await?;
    transaction.execute_unprepared(FOR_READING).await?;
    let name = &day.name;
    // Gives way to others, like the function. It is in the function's settings, too.
    let lock = format!(
        "SET LOCAL lock_timeout = '50ms'; \
        LOCK TABLE events_{name}, deliveries_{name}, attempts_{name} IN SHARE ROW EXCLUSIVE MODE"
    );
    transaction.execute_unprepared(&lock).await?;
    if has_changed(&transaction, day, mark).await? {
        transaction.rollback().await?;
        return Ok(Removal::Changed);
    }
    let values = [name.as_str().into(), day.before.millis().into(), day.dead_until.into()];
    let row = query_one(&transaction, "SELECT postrider_drop_partition($1, $2, $3) AS done", values).await?;
    let done: String = row.map_or_else(|| Ok(String::new()), |row| column(&row, "done"))?;
    transaction.commit().await?;
    Ok(match &*done {
        "dropped" => Removal::Removed,
        "pending" => Removal::Stays(Stays::Pending),
        "dead" => Removal::Stays(Stays::DeadLetters),
        // The tables are there, since they are locked. So another process is dropping a partition.
        _ => Removal::Busy,
    })
}

/// Returns whether a row was written by a transaction that had not ended at the mark.
///
/// Rows keep the 32 bits of their transaction's id for ever, so one that is two or four thousand million transactions old
/// may look as if it was new: then a day that has not changed waits until the ids have gone on. The first call in a
/// transaction decides what the present is (`age`), so locks are taken before.
async fn has_changed(transaction: &Transaction, day: &OldDay, mark: Mark) -> Result<bool, DatabaseError> {
    let new = |table: &str| {
        format!(
            "EXISTS (SELECT 1 FROM {table}_{} WHERE age(xmin) BETWEEN 0 AND age('{}'::xid))",
            day.name, mark.transaction
        )
    };
    let sql = format!("SELECT {} OR {} OR {} AS changed", new("events"), new("deliveries"), new("attempts"));
    let row = query_one(transaction, sql, []).await?;
    row.map_or(Ok(true), |row| column(&row, "changed"))
}

pub(super) async fn why_stays(store: &Store, day: &OldDay) -> Result<Option<Stays>, StoreError> {
    let transaction = store.database.begin().await?;
    transaction.execute_unprepared(FOR_READING).await?;
    let deliveries = format!("deliveries_{}", day.name);
    let ids = day.ids();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {deliveries} WHERE died_at > $1) AS dead, \
            EXISTS (SELECT 1 FROM fan_outs WHERE event_id >= $2 AND event_id < $3) \
                OR EXISTS (SELECT 1 FROM {deliveries} WHERE status = {PENDING}) AS pending"
    );
    let values = [day.dead_until.into(), ids.start.into(), ids.end.into()];
    let row = query_one(&transaction, sql, values).await?;
    transaction.rollback().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(match (column(&row, "pending")?, column(&row, "dead")?) {
        (true, _) => Some(Stays::Pending),
        (false, true) => Some(Stays::DeadLetters),
        (false, false) => None,
    })
}
