//! What the audit trail says about a subscriber.

use postrider_core::{EventPattern, SubscriberId, TenantId};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::patterns;
use super::query::find;
use super::stored::read_plugin;
use crate::audit::fingerprint;
use crate::row::{read_channels, read_metadata};
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
        let events = patterns::of(connection, &[id.uuid()]).await?.remove(&id.uuid()).unwrap_or_default();
        let events: Vec<_> = events.iter().map(EventPattern::as_str).collect();
        let policy: Value = serde_json::from_str(&row.policy).unwrap_or(Value::Null);
        Ok(json!({
            "uid": row.uid,
            "url": row.url,
            "events": events,
            "description": row.description,
            "active": row.active,
            "paused": row.paused_at.is_some(),
            "policy": policy,
            "format": row.format.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or(Value::Null)),
            "filter": row.filter,
            "transform": row.transform.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or(Value::Null)),
            "plugin": read_plugin(row.plugin_name.as_deref(), row.plugin.as_deref(), id)?,
            "metadata": read_metadata(row.metadata.as_deref(), "subscribers", id)?,
            "channels": read_channels(row.channels.as_deref(), "subscribers", id)?,
            "notify_url": row.notify_url,
            "notify_email": row.notify_email,
            "auth_fingerprint": row.auth.as_deref().map(fingerprint),
            "headers_fingerprint": row.headers.as_deref().map(fingerprint),
            "secret_fingerprint": fingerprint(&row.secret),
        }))
    }
}
