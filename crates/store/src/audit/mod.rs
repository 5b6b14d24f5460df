//! The audit trail: who changed what, and when.
//!
//! A change through a store that has an [`Auditor`] ([`Store::audited`]) writes a row in its own transaction, so that neither
//! is there without the other. Without an auditor, as in workers and in applications, nothing is written.
//!
//! | file | what it does |
//! |---|---|
//! | `fingerprint` | what stands for a secret |
//! | `list` | lists the rows, and removes old ones |

mod fingerprint;
mod list;

use std::fmt::Display;
use std::sync::Arc;

use postrider_core::TenantId;
use postrider_core::audit::AuditAction;
use postrider_database::sql::execute;
use sea_orm::ConnectionTrait;
use serde_json::Value;

pub(crate) use self::fingerprint::{fingerprint, fingerprint_of};
pub use self::list::AuditFilter;
pub use crate::auditor::{AuditEntry, Auditor};
use crate::{Store, StoreError};

impl Store {
    /// The same store, whose changes are written to the audit trail.
    #[must_use]
    pub fn audited(&self, auditor: Arc<Auditor>) -> Self {
        Self { auditor: Some(auditor), ..self.clone() }
    }

    /// Writes to the audit trail that a payload was read, in a transaction of its own.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn audit_read(&self, tenant: &TenantId, target: impl Display) -> Result<(), StoreError> {
        let connection = self.database.connection();
        self.audit(connection, tenant, AuditAction::PayloadRead, target, Value::Null, Value::Null).await
    }

    /// Whether changes are written to the audit trail. Otherwise nobody needs to know what was there before.
    pub(crate) fn is_audited(&self) -> bool {
        self.auditor.is_some()
    }

    /// Writes a row, if there is an auditor, within the transaction of the change, and notes that the request is done.
    pub(crate) async fn audit(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        action: AuditAction,
        target: impl Display,
        before: Value,
        after: Value,
    ) -> Result<(), StoreError> {
        let Some(auditor) = &self.auditor else { return Ok(()) };
        if let Some(key) = &auditor.request_key {
            self.fence(connection, key).await?;
        }
        let entry = AuditEntry {
            id: self.ids.next(),
            tenant: tenant.clone(),
            at: self.ids.clock().now(),
            actor: auditor.actor.clone(),
            actor_name: auditor.actor_name.clone(),
            address: auditor.address.map(|address| address.to_string()),
            request_id: auditor.request_id.clone(),
            action: action.as_str().to_owned(),
            target: target.to_string(),
            before,
            after,
        };
        let text = |value: &Value| (!value.is_null()).then(|| value.to_string());
        let values: [sea_orm::Value; 11] = [
            entry.tenant.as_str().into(),
            entry.id.uuid().into(),
            entry.at.millis().into(),
            entry.actor.as_str().into(),
            entry.actor_name.as_str().into(),
            entry.address.clone().into(),
            entry.request_id.clone().into(),
            entry.action.as_str().into(),
            entry.target.as_str().into(),
            text(&entry.before).into(),
            text(&entry.after).into(),
        ];
        let sql = "INSERT INTO audit (tenant, id, created_at, actor, actor_name, address, request_id, action, target, \
                before_change, after_change) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        execute(connection, sql, values).await?;
        auditor.note(entry);
        Ok(())
    }
}
