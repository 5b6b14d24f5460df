//! Removing sandboxes that have expired.

use std::time::Duration;

use postrider_database::sql::execute;

use super::places;
use crate::row::millis;
use crate::{Store, StoreError};

/// How long a sandbox that has expired stays readable, and answers 410.
const KEPT: Duration = Duration::from_hours(1);

/// The most sandboxes, and requests, that one statement removes.
const SANDBOXES_AT_ONCE: u32 = 50;
const REQUESTS_AT_ONCE: u32 = 200;

impl Store {
    /// Removes sandboxes that expired an hour ago with their requests, as much as one call may. Returns whether there was any.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_sandboxes(&self) -> Result<bool, StoreError> {
        let dialect = self.database.dialect();
        let (now, (place, of, lock)) = (dialect.now(), places(dialect));
        let old = format!("expires_at < {now} - $1");
        // Requests first, so that none is left without its sandbox.
        let some = format!(
            "SELECT requests.{place} FROM (SELECT tenant, id FROM sandboxes WHERE {old} ORDER BY expires_at LIMIT 1) AS old \
            JOIN sandbox_requests AS requests ON requests.tenant = old.tenant AND requests.sandbox_id = old.id \
            LIMIT {REQUESTS_AT_ONCE}"
        );
        let sql = format!("DELETE FROM sandbox_requests WHERE {place} {of}({some}))");
        let kept = || [millis(KEPT).into()];
        if execute(self.database.connection(), sql, kept()).await? > 0 {
            return Ok(true);
        }
        // For each sandbox on its own: `NOT EXISTS` becomes a join, which reads the requests of all sandboxes.
        let some = format!(
            "SELECT {place} FROM sandboxes WHERE {old} AND ( \
                SELECT 1 FROM sandbox_requests AS requests \
                WHERE requests.tenant = sandboxes.tenant AND requests.sandbox_id = sandboxes.id LIMIT 1) IS NULL \
            ORDER BY expires_at LIMIT {SANDBOXES_AT_ONCE}{lock}"
        );
        let sql = format!("DELETE FROM sandboxes WHERE {place} {of}({some}))");
        Ok(execute(self.database.connection(), sql, kept()).await? > 0)
    }
}
