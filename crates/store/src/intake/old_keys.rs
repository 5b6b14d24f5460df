//! Removing idempotency keys that are too old.

use std::time::{Duration, Instant};

use postrider_core::Timestamp;
use postrider_database::Dialect;
use postrider_database::sql::execute;

use crate::{Store, StoreError};

/// The most keys that one statement removes.
const REMOVED_AT_ONCE: i64 = 2_000;

/// How long one call removes keys. The next one continues.
const RUN: Duration = Duration::from_secs(3);

impl Store {
    /// Removes idempotency keys that were taken longer than `age` ago, for a few seconds at most. Several processes may call
    /// this at the same time. Returns the number of keys that were removed.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_keys(&self, age: Duration) -> Result<u64, StoreError> {
        self.remove_keys_before(self.ids.clock().now() - age).await
    }

    /// Removes idempotency keys that were taken before this moment, for a few seconds at most.
    pub(crate) async fn remove_keys_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        // By their physical place, which costs no look-up. Keys that another process removes are left to it.
        let sql = match self.database.dialect() {
            Dialect::Postgres => {
                "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY( \
                    SELECT ctid FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2 \
                    FOR UPDATE SKIP LOCKED))"
            }
            Dialect::Sqlite => {
                "DELETE FROM idempotency_keys WHERE rowid IN ( \
                    SELECT rowid FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)"
            }
        };
        let until = Instant::now() + RUN;
        let mut removed = 0;
        loop {
            let values = [before.millis().into(), REMOVED_AT_ONCE.into()];
            let gone = execute(self.database.connection(), sql, values).await?;
            removed += gone;
            if gone < REMOVED_AT_ONCE.unsigned_abs() || Instant::now() >= until {
                return Ok(removed);
            }
        }
    }
}
