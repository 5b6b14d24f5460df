//! Queries for one subscriber of a tenant.

use postrider_core::{SubscriberId, TenantId};
use postrider_database::sql::{column, lock_clause, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::StoreError;
use crate::entity::subscribers;

/// Selects a subscriber of a tenant.
pub(super) fn find(tenant: &TenantId, id: SubscriberId) -> sea_orm::Select<subscribers::Entity> {
    subscribers::Entity::find_by_id(id.uuid()).filter(subscribers::Column::Tenant.eq(tenant.as_str()))
}

/// Updates a subscriber of a tenant.
pub(super) fn update(tenant: &TenantId, id: SubscriberId) -> sea_orm::UpdateMany<subscribers::Entity> {
    subscribers::Entity::update_many()
        .filter(subscribers::Column::Id.eq(id.uuid()))
        .filter(subscribers::Column::Tenant.eq(tenant.as_str()))
}

/// Locks a subscriber of a tenant, and returns whether it is active. `None` if there is none.
pub(super) async fn lock_active(
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
) -> Result<Option<bool>, StoreError> {
    let lock = lock_clause(Dialect::of(transaction));
    let sql = format!("SELECT active FROM subscribers WHERE id = $1 AND tenant = $2{lock}");
    active(transaction, sql, tenant, id).await
}

/// Deletes a subscriber of a tenant, and returns whether it was active. `None` if there is none.
pub(super) async fn delete(
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
) -> Result<Option<bool>, StoreError> {
    let sql = "DELETE FROM subscribers WHERE id = $1 AND tenant = $2 RETURNING active";
    active(transaction, sql, tenant, id).await
}

async fn active(
    transaction: &Transaction,
    sql: impl Into<String>,
    tenant: &TenantId,
    id: SubscriberId,
) -> Result<Option<bool>, StoreError> {
    let row = query_one(transaction, sql, [id.uuid().into(), tenant.as_str().into()]).await?;
    Ok(row.map(|row| column(&row, "active")).transpose()?)
}
