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
        let due = match self.database.dialect() {
            // Row by row: PostgreSQL keeps the plan, and one made for an empty table would read all of a full one.
            Dialect::Postgres => {
                "CROSS JOIN LATERAL (SELECT id, last_used_at FROM api_keys WHERE api_keys.id = input.id LIMIT 1 \
                    FOR UPDATE SKIP LOCKED) AS found"
            }
            Dialect::Sqlite => "CROSS JOIN api_keys AS found ON found.id = input.id",
        };
        let sql = format!(
            ", due(id, used_at) AS (SELECT found.id, input.used_at FROM input {due} \
                WHERE found.last_used_at IS NULL OR found.last_used_at < input.used_at) \
            UPDATE api_keys SET last_used_at = due.used_at FROM due WHERE api_keys.id BETWEEN due.id AND due.id"
        );
        Ok(rows.execute(self.database.connection(), &sql, []).await?)
    }
}
