//! When keys were used last, to the minute.

use postrider_core::{KeyId, Timestamp};
use postrider_database::{Batch, Column, Dialect, Kind};

use crate::{Store, StoreError};

const COLUMNS: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("used_at", Kind::Big)];

const MINUTE: i64 = 60_000;

impl Store {
    /// Takes note of keys that were used: one write for each key and minute at most, whichever process notes it. Keys that
    /// are being changed right now are left out.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn note_key_uses(&self, used: &[(KeyId, Timestamp)]) -> Result<u64, StoreError> {
        let mut rows = Batch::new(COLUMNS);
        for (id, at) in used {
            rows.push([id.uuid().into(), (at.millis().div_euclid(MINUTE) * MINUTE).into()]);
        }
        let lock = match self.database.dialect() {
            Dialect::Postgres => " FOR UPDATE OF api_keys SKIP LOCKED",
            Dialect::Sqlite => "",
        };
        let sql = format!(
            ", due(id, used_at) AS (SELECT api_keys.id, input.used_at FROM input \
                JOIN api_keys ON api_keys.id = input.id \
                WHERE api_keys.last_used_at IS NULL OR api_keys.last_used_at < input.used_at{lock}) \
            UPDATE api_keys SET last_used_at = due.used_at FROM due WHERE api_keys.id = due.id"
        );
        Ok(rows.execute(self.database.connection(), &sql, []).await?)
    }
}
