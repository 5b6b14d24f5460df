//! Ending listeners.

use postrider_core::inside::listener_url;
use postrider_core::{ListenerId, SubscriberId, TenantId};
use postrider_database::Dialect;
use postrider_database::sql::{column, execute, query_all, query_one};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::name;
use crate::row::parse;
use crate::subscribers::SubscriberFilter;
use crate::{PageRequest, Store, StoreError};

/// The most listeners that one call ends, and the most rows that one statement removes.
const AT_ONCE: u32 = 20;
const ROWS: u32 = 500;

const COLUMNS: &str = "tenant, id, token, subscriber_id";

impl Store {
    /// Ends a listener: deletes its subscriber, and then itself. Returns whether there was one. May be repeated.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn end_listener(&self, tenant: &TenantId, id: ListenerId) -> Result<bool, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM listeners WHERE tenant = $1 AND id = $2");
        match query_one(self.database.connection(), sql, name(tenant, id)).await? {
            Some(row) => self.end(&row).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Ends listeners whose lease is over, and removes requests that nobody waits for, as much as one call may. Returns whether
    /// there was any.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn end_old_listeners(&self) -> Result<bool, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT {COLUMNS} FROM listeners WHERE lease_until < {now} ORDER BY lease_until LIMIT {AT_ONCE}"
        );
        let over = query_all(self.database.connection(), sql, []).await?;
        for row in &over {
            self.end(row).await?;
        }
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        // Their workers remove them at once, unless they have crashed.
        let some = format!(
            "SELECT {place} FROM handovers WHERE wait_until < {now} - 10000 ORDER BY wait_until LIMIT {ROWS}{lock}"
        );
        let sql = format!("DELETE FROM handovers WHERE {place} {of}({some}))");
        Ok(execute(self.database.connection(), sql, []).await? > 0 || !over.is_empty())
    }

    async fn end(&self, row: &QueryResult) -> Result<(), StoreError> {
        let id = ListenerId::from_uuid(column(row, "id")?);
        let tenant: String = column(row, "tenant")?;
        let tenant: TenantId = parse(&tenant, "listeners", "tenant", id)?;
        let noted = column::<Option<Uuid>>(row, "subscriber_id")?.map(SubscriberId::from_uuid);
        let subscriber = if noted.is_some() {
            noted
        } else {
            // The server that created it has crashed before it noted the subscriber, or has created none.
            let url = listener_url(&column::<String>(row, "token")?);
            let filter = SubscriberFilter { url: Some(url), ..SubscriberFilter::default() };
            let found = self.find_subscribers(&tenant, &filter, PageRequest::default()).await?;
            found.items.first().map(|subscriber| subscriber.id)
        };
        if let Some(subscriber) = subscriber {
            self.delete_subscriber(&tenant, subscriber).await?;
        }
        execute(
            self.database.connection(),
            "DELETE FROM listeners WHERE tenant = $1 AND id = $2",
            name(&tenant, id),
        )
        .await?;
        Ok(())
    }
}
