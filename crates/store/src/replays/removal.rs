//! Removing replays that are too old, and what is left of the sets of cancelled ones.

use postrider_core::Timestamp;
use postrider_core::replay::ReplayStatus;
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{Dialect, Transaction};
use uuid::Uuid;

use crate::retention::Retention;
use crate::{Store, StoreError};

/// How many rows of a set one step removes, and how many replays.
const ROWS: u64 = 2_000;
const REPLAYS: u32 = 100;

impl Store {
    /// Removes some of what is left of the set of a cancelled replay. Returns whether there was any.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The rows may have been removed all the same.
    pub async fn clean_replays(&self) -> Result<bool, StoreError> {
        let sql = "SELECT tenant, id FROM replays WHERE cleaning ORDER BY tenant, id LIMIT 1";
        let row = query_one(self.database.connection(), sql, []).await?;
        let Some(row) = row else { return Ok(false) };
        let (tenant, id): (String, Uuid) = (column(&row, "tenant")?, column(&row, "id")?);
        let key = || -> [sea_orm::Value; 2] { [tenant.as_str().into(), id.into()] };
        let transaction = self.database.begin().await?;
        let sql = format!(
            "DELETE FROM replay_rows WHERE tenant = $1 AND replay_id = $2 AND number IN ( \
                SELECT number FROM replay_rows WHERE tenant = $1 AND replay_id = $2 ORDER BY number LIMIT {ROWS})"
        );
        if execute(&transaction, sql, key()).await? < ROWS {
            let sql = "UPDATE replays SET cleaning = false WHERE tenant = $1 AND id = $2";
            execute(&transaction, sql, key()).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes replays that are older than the history of the deployment or of their tenant: everything that they could
    /// deliver is gone. One that is not over is cancelled, and removed once its set is. Returns whether there were any.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Replays may have been removed all the same.
    pub async fn remove_old_replays(&self, retention: Retention) -> Result<bool, StoreError> {
        let now = self.ids.clock().now();
        let before = retention.history.before(now).map_or(i64::MIN, Timestamp::millis);
        // By their age, and those of the few tenants that keep less.
        let old = format!(
            "SELECT tenant, id, status FROM (SELECT tenant, id, status FROM replays \
                WHERE created_at < $1 AND NOT cleaning ORDER BY created_at LIMIT {REPLAYS}) AS old \
            UNION SELECT tenant, id, status FROM (SELECT replays.tenant, replays.id, replays.status FROM tenants \
                JOIN replays ON replays.tenant = tenants.id \
                WHERE tenants.retain_history IS NOT NULL AND replays.created_at < $2 - tenants.retain_history \
                    AND NOT replays.cleaning LIMIT {REPLAYS}) AS old_of_tenants \
            ORDER BY tenant, id"
        );
        let rows = query_all(&self.database.reads(), old, [before.into(), now.millis().into()]).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let transaction = self.database.begin().await?;
        for row in &rows {
            let (tenant, id): (String, Uuid) = (column(row, "tenant")?, column(row, "id")?);
            let status = ReplayStatus::from_code(column(row, "status")?);
            remove(&transaction, &tenant, id, status).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

async fn remove(
    transaction: &Transaction,
    tenant: &str,
    id: Uuid,
    status: Option<ReplayStatus>,
) -> Result<(), StoreError> {
    let key: [sea_orm::Value; 2] = [tenant.into(), id.into()];
    let (done, cancelled) = (ReplayStatus::Done.code(), ReplayStatus::Cancelled.code());
    let sql = if status.is_some_and(ReplayStatus::is_final) {
        format!(
            "DELETE FROM replays WHERE tenant = $1 AND id = $2 AND status IN ({done}, {cancelled}) AND NOT cleaning"
        )
    } else {
        format!(
            "UPDATE replays SET status = {cancelled}, cleaning = true, place = NULL, ended_at = {} \
            WHERE tenant = $1 AND id = $2 AND status NOT IN ({done}, {cancelled})",
            Dialect::of(transaction).now()
        )
    };
    execute(transaction, sql, key).await?;
    Ok(())
}
