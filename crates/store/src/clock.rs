//! Comparing the clock of this process with the database's.

use std::time::{Duration, Instant};

use postrider_core::{Clock as _, Timestamp};
use postrider_database::sql::{column, query_one};

use crate::{Store, StoreError};

/// The difference between two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// The clock of this process minus the database's, in milliseconds.
    pub millis: i64,
    /// How far the difference may be wrong: half of the time that the database took to answer.
    pub uncertainty: Duration,
}

impl Store {
    /// Measures how far the clock of this process is from the database's, in one round trip. On SQLite both are the clock
    /// of this machine.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn clock_skew(&self) -> Result<ClockSkew, StoreError> {
        let clock = self.ids.clock();
        let sql = format!("SELECT {} AS now", self.database.dialect().now());
        let (started, before) = (Instant::now(), clock.now());
        let row = query_one(self.database.connection(), sql, []).await?;
        let (took, after) = (started.elapsed(), clock.now());
        // The statement ran at some moment in between; the middle is wrong by half of that time at most.
        let middle = Timestamp::from_millis(i64::midpoint(before.millis(), after.millis()));
        let database = row.map(|row| column::<i64>(&row, "now")).transpose()?.unwrap_or(middle.millis());
        Ok(ClockSkew { millis: middle.millis().saturating_sub(database), uncertainty: took / 2 })
    }
}
