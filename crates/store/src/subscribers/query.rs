//! Queries for one subscriber of a tenant.

use postrider_core::{SubscriberId, SubscriberUid, TenantId};
use postrider_database::Transaction;
use postrider_database::sql::{column, query_one};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::entity::subscribers;
use crate::{Store, StoreError};

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

impl Store {
    /// Returns the tenant's subscriber that has this uid.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscriber_with_uid(
        &self,
        tenant: &TenantId,
        uid: &SubscriberUid,
    ) -> Result<Option<SubscriberId>, StoreError> {
        let sql = "SELECT id FROM subscribers WHERE tenant = $1 AND uid = $2";
        let row =
            query_one(&self.database.reads(), sql, [tenant.as_str().into(), uid.as_str().into()]).await?;
        Ok(row.map(|row| column(&row, "id")).transpose()?.map(SubscriberId::from_uuid))
    }
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
