//! Links to the portal of subscribers' owners. A link works once: using it removes it and begins a session.
//!
//! A link is stored as the hash of its secret.

use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::key::KeyHash;
use postrider_core::portal::Portal;
use postrider_core::{KeyId, TenantId, Timestamp};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, execute, query_one};
use sea_orm::{QueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use crate::row::{millis, parse};
use crate::sessions::{self, Session};
use crate::{Store, StoreError};

/// How many unused links a tenant may have.
pub const MAX_LINKS: u32 = 10_000;

const COLUMNS: &str = "id, tenant, key_id, key_hash, portal, session_ttl, expires_at";

/// A link that nobody has used yet.
#[derive(Clone, Debug)]
pub struct PortalLink {
    /// The SHA-256 of its secret.
    pub id: [u8; 32],
    /// The tenant whose subscribers the portal shows.
    pub tenant: TenantId,
    /// The key that made it; `None` for the key in the server's environment.
    pub key: Option<KeyId>,
    /// The hash of that key's text.
    pub key_hash: KeyHash,
    /// What the session is.
    pub portal: Portal,
    /// How long the session lasts.
    pub session_ttl: Duration,
    /// Until when it works.
    pub expires_at: Timestamp,
}

impl Store {
    /// Stores a link. Returns `false` if the tenant has too many unused ones.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The link may work all the same.
    pub async fn create_portal_link(&self, link: &PortalLink) -> Result<bool, StoreError> {
        let now = self.ids.clock().now().millis();
        let transaction = self.database.begin().await?;
        let unused = format!(
            "SELECT count(*) AS n FROM \
                (SELECT 1 FROM portal_links WHERE tenant = $1 AND expires_at > $2 LIMIT {MAX_LINKS}) AS unused"
        );
        let row = query_one(&transaction, unused, [link.tenant.as_str().into(), now.into()]).await?;
        let unused = row.map(|row| column::<i64>(&row, "n")).transpose()?.unwrap_or_default();
        if unused >= i64::from(MAX_LINKS) {
            return Ok(false);
        }
        let values: [Value; 7] = [
            link.id.to_vec().into(),
            link.tenant.as_str().into(),
            link.key.map(postrider_core::Id::uuid).into(),
            link.key_hash.as_bytes().to_vec().into(),
            sessions::stored(&link.portal)?.into(),
            millis(link.session_ttl).into(),
            link.expires_at.millis().into(),
        ];
        let sql = format!("INSERT INTO portal_links ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)");
        execute(&transaction, sql, values).await?;
        let after = described(&link.portal, link.expires_at);
        let (action, name) = (AuditAction::PortalLinkCreated, name(&link.id));
        self.audit(&transaction, &link.tenant, action, name, serde_json::Value::Null, after).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns a link that still works.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn portal_link(&self, id: &[u8; 32]) -> Result<Option<PortalLink>, StoreError> {
        let now = self.ids.clock().now().millis();
        let sql = format!("SELECT {COLUMNS} FROM portal_links WHERE id = $1 AND expires_at > $2");
        let row = query_one(self.database.connection(), sql, [id.to_vec().into(), now.into()]).await?;
        row.as_ref().map(read).transpose()
    }

    /// Uses up a link and begins `session`. Returns `false` if the link was used in the meantime.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The link may be used up all the same.
    pub async fn use_portal_link(&self, link: &PortalLink, session: &Session) -> Result<bool, StoreError> {
        let now = self.ids.clock().now().millis();
        let transaction = self.database.begin().await?;
        let sql = "DELETE FROM portal_links WHERE id = $1 AND expires_at > $2";
        if execute(&transaction, sql, [link.id.to_vec().into(), now.into()]).await? == 0 {
            return Ok(false);
        }
        sessions::insert(&transaction, session).await?;
        let after = json!({
            "session": sessions::name(&session.id),
            "expires_at": session.expires_at.millis(),
            "user_agent": session.user_agent,
        });
        let (action, name) = (AuditAction::PortalLinkUsed, name(&link.id));
        self.audit(&transaction, &link.tenant, action, name, serde_json::Value::Null, after).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// What stands for a link in the audit trail.
fn name(id: &[u8; 32]) -> String {
    sessions::name(id).replace("session-", "link-")
}

fn described(portal: &Portal, expires_at: Timestamp) -> serde_json::Value {
    json!({
        "scopes": portal.scopes,
        "subscriber_ids": portal.subscribers,
        "frame_ancestors": portal.frame_ancestors,
        "expires_at": expires_at.millis(),
    })
}

fn read(row: &QueryResult) -> Result<PortalLink, StoreError> {
    let bytes = |name: &'static str| -> Result<[u8; 32], StoreError> {
        let bytes: Vec<u8> = column(row, name)?;
        let wrong = |_| DatabaseError::inconsistent("portal_links", name, "a link", "not 32 bytes");
        Ok(<[u8; 32]>::try_from(bytes).map_err(wrong)?)
    };
    let hash = bytes("key_hash")?;
    let hash = KeyHash::from_bytes(&hash)
        .ok_or_else(|| DatabaseError::inconsistent("portal_links", "key_hash", "a link", "not 32 bytes"))?;
    let ttl = u64::try_from(column::<i64>(row, "session_ttl")?).unwrap_or_default();
    Ok(PortalLink {
        id: bytes("id")?,
        tenant: parse(&column::<String>(row, "tenant")?, "portal_links", "tenant", "a link")?,
        key: column::<Option<Uuid>>(row, "key_id")?.map(KeyId::from_uuid),
        key_hash: hash,
        portal: sessions::read_portal("portal_links", &column::<String>(row, "portal")?)?,
        session_ttl: Duration::from_millis(ttl),
        expires_at: Timestamp::from_millis(column(row, "expires_at")?),
    })
}
