//! Holding the lanes of a tenant that is not active, and releasing them once it is.
//!
//! A change of `active` makes a promise in the tenant's row, which is kept in steps: the server takes the first ones, the
//! worker those that are left. Each step locks the tenant's row, and creating a subscriber locks it against them, so that no
//! lane is left out.

use postrider_core::{SubscriberId, TenantId};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{Dialect, Transaction};
use postrider_queue::Hold;
use sea_orm::Value;
use uuid::Uuid;

use crate::queue_ids::lane_of;
use crate::row::parse;
use crate::{Store, StoreError};

/// The lanes of how many subscribers a step holds or releases.
const LANES: usize = 500;

impl Store {
    /// Returns a tenant whose lanes are being held or released.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn tenant_being_held(&self) -> Result<Option<TenantId>, StoreError> {
        let sql = "SELECT id FROM tenants WHERE holding_after IS NOT NULL ORDER BY id LIMIT 1";
        let row = query_one(self.database.connection(), sql, []).await?;
        row.map(|row| {
            let id: String = column(&row, "id")?;
            parse(&id, "tenants", "id", &id)
        })
        .transpose()
    }

    /// Takes the next step of holding or releasing the lanes of a tenant. Returns whether there is another one.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn hold_lanes_of(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        let lock = lock_clause(Dialect::of(&transaction));
        let sql = format!(
            "SELECT active, holding_after FROM tenants WHERE id = $1 AND holding_after IS NOT NULL{lock}"
        );
        let id: Value = tenant.as_str().into();
        let Some(row) = query_one(&transaction, sql, [id.clone()]).await? else { return Ok(false) };
        let (active, after): (bool, Uuid) = (column(&row, "active")?, column(&row, "holding_after")?);
        // In the order of the index that leads with the tenant; see `delete_subscribers_of`.
        let sql = format!(
            "SELECT id FROM subscribers WHERE tenant BETWEEN $1 AND $1 AND id > $2 ORDER BY tenant, id LIMIT {LANES}"
        );
        let rows = query_all(&transaction, sql, [id.clone(), after.into()]).await?;
        let found = rows.iter().map(|row| column::<Uuid>(row, "id")).collect::<Result<Vec<_>, _>>()?;
        let lanes: Vec<_> = found.iter().map(|id| lane_of(SubscriberId::from_uuid(*id))).collect();
        if active {
            self.queue.release_in(&transaction, &lanes, Hold::Owner).await?;
        } else {
            self.queue.hold_in(&transaction, &lanes, tenant.as_str(), Hold::Owner).await?;
        }
        let next = found.last().filter(|_| found.len() == LANES).copied();
        let sql = "UPDATE tenants SET holding_after = $2 WHERE id = $1";
        execute(&transaction, sql, [id, next.into()]).await?;
        transaction.commit().await?;
        self.queue.lanes_changed();
        if active {
            self.queue.wake(&lanes);
        }
        Ok(next.is_some())
    }

    /// Locks a tenant against the steps of [`Store::hold_lanes_of`], and returns whether it is active. One that is not
    /// registered is.
    pub(crate) async fn lock_activity(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
    ) -> Result<bool, StoreError> {
        let lock = match Dialect::of(transaction) {
            Dialect::Postgres => " FOR SHARE",
            Dialect::Sqlite => "",
        };
        let sql = format!("SELECT active FROM tenants WHERE id = $1{lock}");
        let row = query_one(transaction, sql, [tenant.as_str().into()]).await?;
        Ok(row.map(|row| column(&row, "active")).transpose()?.unwrap_or(true))
    }
}
