//! Queries for one subscriber of a tenant.

use postrider_core::{SubscriberId, TenantId};
use postrider_database::Transaction;
use postrider_database::sql::{column, query_one};
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

/// Returns whether the tenant has this subscriber, and it is active.
pub(crate) async fn is_active(
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
) -> Result<bool, StoreError> {
    let sql = "SELECT active FROM subscribers WHERE id = $1 AND tenant = $2";
    let row = query_one(transaction, sql, [id.uuid().into(), tenant.as_str().into()]).await?;
    Ok(row.map(|row| column(&row, "active")).transpose()?.unwrap_or(false))
}

/// Deletes a subscriber of a tenant, and returns whether it was active. `None` if there is none.
pub(super) async fn delete(
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
) -> Result<Option<bool>, StoreError> {
    let sql = "DELETE FROM subscribers WHERE id = $1 AND tenant = $2 RETURNING active";
    let row = query_one(transaction, sql, [id.uuid().into(), tenant.as_str().into()]).await?;
    Ok(row.map(|row| column(&row, "active")).transpose()?)
}
