//! Removing old days after their rows have been copied.
//!
//! A day goes in three steps: somebody reads all its rows, writes them down somewhere else, and then asks for its removal.
//! The removal refuses a day with rows that are not in the copy as they are now. Until then the day stays as it is, so a
//! process may end at any point.
//!
//! | file | what it does |
//! |---|---|
//! | `rows` | reads the rows of a day, page by page |
//! | `postgres` | drops a day's partition, unless a row was written after the copying began |
//! | `sqlite` | deletes a day in small batches, each after comparing it with the copy |

mod postgres;
mod rows;
mod sqlite;

use std::ops::Range;

use postrider_core::Timestamp;
use postrider_database::Dialect;
use postrider_database::sql::{column, query_one};
use sea_orm::prelude::Uuid;

pub use self::postgres::Mark;
pub use self::rows::{Row, Rows};
pub use self::sqlite::Copied;
use crate::retention::{Retention, Stays};
use crate::{Store, StoreError};

/// A day whose events are all old enough to go: a partition of PostgreSQL, a day in UTC on SQLite, or the data of the first
/// edition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldDay {
    /// Its name, such as `20261127`: the end of its tables' names on PostgreSQL.
    pub name: String,
    /// It has the events from this moment,
    pub starts_at: Timestamp,
    /// until before this one.
    pub ends_at: Timestamp,
    /// Everything before this moment may go,
    before: Timestamp,
    /// except deliveries that died after this one.
    dead_until: i64,
}

impl OldDay {
    /// The ids of its events.
    fn ids(&self) -> Range<Uuid> {
        first_id(self.starts_at)..first_id(self.ends_at)
    }

    /// The name of a table, or of its partition.
    fn table(&self, dialect: Dialect, table: &str) -> String {
        match dialect {
            Dialect::Postgres => format!("{table}_{}", self.name),
            Dialect::Sqlite => table.to_owned(),
        }
    }
}

/// The least id of a moment.
fn first_id(moment: Timestamp) -> Uuid {
    Uuid::from_u128(u128::try_from(moment.millis()).unwrap_or(0) << 80)
}

/// What became of a day that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was removed.
    Removed,
    /// It stays as it is, for this reason.
    Stays(Stays),
    /// It has rows that are not in the copy, because they were written after the copying began.
    Changed,
    /// Others held its tables. Trying again later may help.
    Busy,
    /// It was not there any more: another process has removed it.
    Gone,
}

impl Store {
    /// Returns the first day that begins at or after `from` and whose events are all older than the history's age; `None`
    /// if there is none.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn next_old_day(
        &self,
        retention: Retention,
        from: Timestamp,
    ) -> Result<Option<OldDay>, StoreError> {
        let now = self.ids.clock().now();
        let Some(before) = retention.history.before(now) else { return Ok(None) };
        let dead_until = retention.dead.before(now).map_or(-1, |before| before.millis() - 1);
        let found = match self.database.dialect() {
            Dialect::Postgres => {
                let sql = "SELECT suffix AS name, starts_at, ends_at FROM partitions \
                    WHERE ends_at <= $1 AND starts_at >= $2 ORDER BY starts_at LIMIT 1";
                let values = [before.millis().into(), from.millis().into()];
                query_one(&self.database.reads(), sql, values).await?
            }
            Dialect::Sqlite => sqlite::first_day(self, from).await?,
        };
        let Some(row) = found else { return Ok(None) };
        let day = OldDay {
            name: column(&row, "name")?,
            starts_at: Timestamp::from_millis(column(&row, "starts_at")?),
            ends_at: Timestamp::from_millis(column(&row, "ends_at")?),
            before,
            dead_until,
        };
        Ok(Some(day).filter(|day| day.ends_at <= before))
    }

    /// Returns why a day must stay although it is old enough; `None` if it may go. On PostgreSQL it may read every delivery
    /// of the day.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn why_day_stays(&self, day: &OldDay) -> Result<Option<Stays>, StoreError> {
        match self.database.dialect() {
            Dialect::Postgres => postgres::why_stays(self, day).await,
            Dialect::Sqlite => sqlite::why_stays(self, day).await,
        }
    }

    /// Removes idempotency keys that are older than the history, for a few seconds at most, as
    /// [`remove_expired`](Store::remove_expired) does.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_expired_keys(&self, retention: Retention) -> Result<u64, StoreError> {
        match retention.history.before(self.ids.clock().now()) {
            Some(before) => self.remove_keys_before(before).await,
            None => Ok(0),
        }
    }
}
