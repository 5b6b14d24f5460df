//! What the audit trail says about a subscriber.

use postrider_core::{SubscriberId, TenantId};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::{Value, json};

use super::query::find;
use crate::audit::fingerprint;
use crate::entity::subscriptions;
use crate::{Store, StoreError};

impl Store {
    /// What the audit trail says about a subscriber; null if there is no auditor or no such subscriber.
    pub(crate) async fn subscriber_json(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        id: SubscriberId,
    ) -> Result<Value, StoreError> {
        if !self.is_audited() {
            return Ok(Value::Null);
        }
        let Some(row) = find(tenant, id).one(connection).await? else { return Ok(Value::Null) };
        let patterns = subscriptions::Entity::find()
            .filter(subscriptions::Column::SubscriberId.eq(id.uuid()))
            .order_by_asc(subscriptions::Column::Pattern);
        let events: Vec<_> = patterns.all(connection).await?.into_iter().map(|row| row.pattern).collect();
        let policy: Value = serde_json::from_str(&row.policy).unwrap_or(Value::Null);
        Ok(json!({
            "url": row.url,
            "events": events,
            "description": row.description,
            "active": row.active,
            "paused": row.paused_at.is_some(),
            "policy": policy,
            "format": row.format.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or(Value::Null)),
            "headers_fingerprint": row.headers.as_deref().map(fingerprint),
            "secret_fingerprint": fingerprint(&row.secret),
        }))
    }
}
