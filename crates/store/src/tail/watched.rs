//! Noting and reading which tenants somebody follows.

use postrider_core::TenantId;
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{Batch, Column, Dialect, Kind};

use super::TAIL_KEPT;
use crate::row::{millis, parse};
use crate::{Store, StoreError};

/// The most tenants that are followed at a time.
const MAX_TENANTS: u32 = 1_000;

/// The most rows that one statement removes.
const REMOVED_AT_ONCE: u32 = 2_000;

impl Store {
    /// Notes that somebody follows these tenants, for [`TAIL_KEPT`]. Workers hear of it within a second or two.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn watch_tail(&self, tenants: &[TenantId]) -> Result<(), StoreError> {
        const TENANT: &[Column] = &[Column::new("tenant", Kind::Text)];
        if tenants.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<_> = tenants.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut input = Batch::new(TENANT);
        for tenant in sorted {
            input.push([tenant.as_str().into()]);
        }
        let now = self.database.dialect().now();
        let sql = format!(
            "INSERT INTO tail_watches (tenant, watched_until) SELECT tenant, {now} + $1 FROM input WHERE true \
            ON CONFLICT (tenant) DO UPDATE SET watched_until = excluded.watched_until"
        );
        input.execute(self.database.connection(), &sql, [millis(TAIL_KEPT).into()]).await?;
        self.watched.add(tenants.iter().cloned());
        Ok(())
    }

    /// Reads which tenants somebody follows, so that this process notes what happens to their deliveries.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn read_watched(&self) -> Result<(), StoreError> {
        let now = self.database.dialect().now();
        let sql = format!("SELECT tenant FROM tail_watches WHERE watched_until > {now} LIMIT {MAX_TENANTS}");
        let rows = query_all(&self.database.reads(), sql, []).await?;
        let tenants = rows.iter().map(|row| {
            let tenant: String = column(row, "tenant")?;
            parse(&tenant, "tail_watches", "tenant", &tenant)
        });
        self.watched.set(tenants.collect::<Result<_, StoreError>>()?);
        Ok(())
    }

    /// Removes what was kept for [`TAIL_KEPT`], as much as one call may. Returns whether there was any.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_tail(&self) -> Result<bool, StoreError> {
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        let now = self.database.dialect().now();
        let sql = format!(
            "DELETE FROM tail_rows WHERE {place} {of}(SELECT {place} FROM tail_rows WHERE created_at < {now} - $1 \
                ORDER BY created_at LIMIT {REMOVED_AT_ONCE}{lock}))"
        );
        let rows = execute(self.database.connection(), sql, [millis(TAIL_KEPT).into()]).await?;
        let sql = format!(
            "DELETE FROM tail_watches WHERE {place} {of}(SELECT {place} FROM tail_watches \
                WHERE watched_until < {now} LIMIT {REMOVED_AT_ONCE}{lock}))"
        );
        Ok(execute(self.database.connection(), sql, []).await? + rows > 0)
    }
}
