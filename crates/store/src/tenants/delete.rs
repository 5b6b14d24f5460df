//! Deleting a tenant with all its data.
//!
//! From the request on, servers refuse the tenant's writes, each once it has heard of it. Some seconds later the data goes
//! in small steps, each a transaction, which any process can take: first the subscribers, so that nothing is delivered any
//! more, then everything else, table by table. The tables are gone through again until nothing is found in any of them, which
//! also finds what a request in flight has written. Then the tenant's own row goes.

use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::{SubscriberId, TenantId};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::Value;
use serde_json::Value as Json;
use uuid::Uuid;

use super::egress::take_turn;
use crate::row::{millis, parse};
use crate::turn::Turn;
use crate::{Store, StoreError};

/// How long servers have to hear of a deletion, and transactions in flight to end.
const HEARD_AFTER: Duration = Duration::from_secs(30);

/// How many subscribers a step deletes, and how many rows.
const SUBSCRIBERS: u32 = 50;
const ROWS: u32 = 500;

/// The tables with a tenant's data. Attempts go before deliveries and those before events, so that nothing is left without
/// what it belongs to.
const TABLES: [Table; 24] = [
    Table::whole("api_keys"),
    Table::whole("portal_links"),
    Table::whole("sessions"),
    Table::whole("audit"),
    Table::whole("event_types"),
    Table::whole("owner_notices"),
    Table::whole("fan_outs"),
    Table::whole("erasures"),
    Table::whole("idempotency_keys"),
    Table::whole("request_keys"),
    Table::whole("replay_rows"),
    Table::whole("replays"),
    Table::whole("sandbox_requests"),
    Table::whole("sandboxes"),
    Table::whole("handovers"),
    Table::whole("listeners"),
    Table::whole("tail_watches"),
    Table::whole("tail_rows"),
    Table::partitioned("attempts", "delivery_id"),
    Table::partitioned("deliveries", "id"),
    Table::partitioned("events", "id"),
    Table::whole("rollup_deltas"),
    Table::whole("rollups"),
    Table::whole("subscriber_counts"),
];

struct Table {
    name: &'static str,
    /// The id by which it is partitioned.
    id: Option<&'static str>,
}

/// Whether a tenant can be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletable {
    /// Its deletion has begun, now or before.
    Begun,
    /// Postrider itself needs it.
    Needed,
    /// It is not registered.
    Missing,
}

/// Why a tenant's events are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It was deactivated.
    Inactive,
    /// It is being deleted, and takes no other writes either.
    BeingDeleted,
}

/// The result of a step of [`Store::delete_tenant_data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleting {
    /// The tenant.
    pub tenant: TenantId,
    /// How many rows, or subscribers, the step has deleted.
    pub rows: u64,
    /// Whether nothing is left, and the tenant is not registered any more.
    pub complete: bool,
}

impl Store {
    /// Promises to delete a tenant with all its data. May be repeated.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The promise may have been made all the same.
    pub async fn delete_tenant(&self, tenant: &TenantId) -> Result<Deletable, StoreError> {
        if *tenant == TenantId::default() || *tenant == TenantId::operator() {
            return Ok(Deletable::Needed);
        }
        let now = self.database.dialect().now();
        let sql = format!(
            "UPDATE tenants SET deletion_requested_at = coalesce(deletion_requested_at, {now}) WHERE id = $1"
        );
        let transaction = self.database.begin().await?;
        let found = execute(&transaction, sql, [tenant.as_str().into()]).await? > 0;
        if found {
            let (operator, action) = (TenantId::operator(), AuditAction::TenantDeleted);
            self.audit(&transaction, &operator, action, tenant, Json::Null, Json::Null).await?;
        }
        transaction.commit().await?;
        Ok(if found { Deletable::Begun } else { Deletable::Missing })
    }

    /// Returns which tenants are being deleted or are not active, up to `max` of each.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn closed_tenants(&self, max: u32) -> Result<Vec<(TenantId, Closed)>, StoreError> {
        let sql = format!(
            "SELECT * FROM (
                 SELECT id, false AS deleted FROM tenants WHERE NOT active ORDER BY id LIMIT {max}
             ) AS inactive UNION ALL SELECT * FROM (
                 SELECT id, true AS deleted FROM tenants WHERE deletion_requested_at IS NOT NULL
                 ORDER BY deletion_requested_at LIMIT {max}
             ) AS deleted"
        );
        let rows = query_all(&self.database.reads(), sql, []).await?;
        rows.iter()
            .map(|row| {
                let id: String = column(row, "id")?;
                let closed = if column(row, "deleted")? { Closed::BeingDeleted } else { Closed::Inactive };
                Ok((parse(&id, "tenants", "id", &id)?, closed))
            })
            .collect()
    }

    /// Takes the next step of the deletion that has waited longest. Returns `None` if there is nothing to do now, or if
    /// another process is at work.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn delete_tenant_data(&self) -> Result<Option<Deleting>, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT id FROM tenants WHERE deletion_requested_at < {now} - $1 ORDER BY deletion_requested_at LIMIT 1"
        );
        let heard_after = millis(HEARD_AFTER);
        let row = query_one(self.database.connection(), sql, [heard_after.into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let id: String = column(&row, "id")?;
        let tenant: TenantId = parse(&id, "tenants", "id", &id)?;
        let deleted = self.delete_subscribers_of(&tenant).await?;
        if deleted > 0 {
            return Ok(Some(Deleting { tenant, rows: deleted, complete: false }));
        }
        let transaction = self.database.begin().await?;
        if !Turn::DELETING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        // First of all its locks, as creating a subscriber locks it.
        let lock = lock_clause(Dialect::of(&transaction));
        query_one(
            &transaction,
            format!("SELECT id FROM tenants WHERE id = $1{lock}"),
            [tenant.as_str().into()],
        )
        .await?;
        let (mut rows, mut some_left) = (0, false);
        for table in &TABLES {
            rows = table.delete(&transaction, &tenant).await?;
            if rows > 0 {
                break;
            }
            // Others may have locked the last ones.
            some_left |= table.has_any(&transaction, &tenant).await?;
        }
        let complete = rows == 0 && !some_left;
        let id: Value = tenant.as_str().into();
        if complete {
            let sql = "SELECT 1 AS one FROM tenants WHERE id = $1 AND egress_proxy IS NOT NULL";
            if query_one(&transaction, sql, [id.clone()]).await?.is_some() {
                // Another tenant of this name must not inherit it.
                take_turn(&transaction).await?;
            }
            execute(&transaction, "DELETE FROM tenants WHERE id = $1", [id]).await?;
        } else {
            let sql = "UPDATE tenants SET deleted_rows = deleted_rows + $2 WHERE id = $1";
            let count = i64::try_from(rows).unwrap_or(i64::MAX);
            execute(&transaction, sql, [id, count.into()]).await?;
        }
        transaction.commit().await?;
        Ok(Some(Deleting { tenant, rows, complete }))
    }

    async fn delete_subscribers_of(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        // A range of one tenant, in the order of the index that leads with the tenant: otherwise PostgreSQL may walk over the
        // subscribers of all tenants, in the order of their ids.
        let sql = format!(
            "SELECT id FROM subscribers WHERE tenant BETWEEN $1 AND $1 ORDER BY tenant, id LIMIT {SUBSCRIBERS}"
        );
        let mut deleted = 0;
        for row in query_all(self.database.connection(), sql, [tenant.as_str().into()]).await? {
            let id = SubscriberId::from_uuid(column::<Uuid>(&row, "id")?);
            deleted += u64::from(self.delete_subscriber(tenant, id).await?);
        }
        Ok(deleted)
    }
}

impl Table {
    const fn whole(name: &'static str) -> Self {
        Self { name, id: None }
    }

    const fn partitioned(name: &'static str, id: &'static str) -> Self {
        Self { name, id: Some(id) }
    }

    async fn has_any(&self, transaction: &Transaction, tenant: &TenantId) -> Result<bool, StoreError> {
        let sql = format!("SELECT 1 AS one FROM {} WHERE tenant = $1 LIMIT 1", self.name);
        Ok(query_one(transaction, sql, [tenant.as_str().into()]).await?.is_some())
    }

    /// Deletes some of the tenant's rows.
    async fn delete(&self, transaction: &Transaction, tenant: &TenantId) -> Result<u64, StoreError> {
        let name = self.name;
        let Some(id) = self.id else {
            // In any order, so it must not wait for others.
            let (place, of, lock) = match Dialect::of(transaction) {
                Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
                Dialect::Sqlite => ("rowid", "IN (", ""),
            };
            let some = format!("SELECT {place} FROM {name} WHERE tenant = $1 LIMIT {ROWS}{lock}");
            let sql = format!("DELETE FROM {name} WHERE {place} {of}({some}))");
            return Ok(execute(transaction, sql, [tenant.as_str().into()]).await?);
        };
        // Locked in order, as all others lock them.
        let lock = lock_clause(Dialect::of(transaction));
        let sql = format!("SELECT {id} AS id FROM {name} WHERE tenant = $1 ORDER BY {id} LIMIT {ROWS}{lock}");
        let found = query_all(transaction, sql, [tenant.as_str().into()]).await?;
        let Some((first, last)) = found.first().zip(found.last()) else { return Ok(0) };
        // A range, so that PostgreSQL opens the partitions of these rows only.
        let range: [Uuid; 2] = [column(first, "id")?, column(last, "id")?];
        let sql = format!("DELETE FROM {name} WHERE tenant = $1 AND {id} BETWEEN $2 AND $3");
        Ok(execute(transaction, sql, [tenant.as_str().into(), range[0].into(), range[1].into()]).await?)
    }
}
