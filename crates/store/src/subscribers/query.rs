//! Queries for one subscriber of a tenant.

use postrider_core::{SubscriberId, TenantId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

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
