//! Who makes changes, and what was written about them.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use postrider_core::{AuditId, TenantId, Timestamp};
use serde_json::Value;
use uuid::Uuid;

/// Who makes changes, and in which request.
#[derive(Debug)]
pub struct Auditor {
    /// The id of a key, or another word.
    pub actor: String,
    /// The name of that key.
    pub actor_name: String,
    /// The address of the caller, if it is known.
    pub address: Option<IpAddr>,
    /// The request.
    pub request_id: Option<String>,
    /// The key of the request, if it is to be carried out once.
    pub request_key: Option<RequestKey>,
    /// What was written so far.
    written: Mutex<Vec<AuditEntry>>,
}

/// A row of the audit trail.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its id, which begins with the time.
    pub id: AuditId,
    /// The tenant that it concerns; `operator` for tenants and for the keys of operators.
    pub tenant: TenantId,
    /// When.
    pub at: Timestamp,
    /// The id of a key, or another word.
    pub actor: String,
    /// The name of that key then.
    pub actor_name: String,
    /// The address of the caller.
    pub address: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// The word of an [`AuditAction`](postrider_core::audit::AuditAction), or one of a later version.
    pub action: String,
    /// The id of what it was done to.
    pub target: String,
    /// What it was before; null if it did not exist, or if that is of no interest.
    pub before: Value,
    /// What it is afterwards; null if it does not exist any more.
    pub after: Value,
}

impl Auditor {
    /// Someone who makes changes in a request.
    pub fn new(
        actor: String,
        actor_name: String,
        address: Option<IpAddr>,
        request_id: Option<String>,
    ) -> Self {
        Self { actor, actor_name, address, request_id, request_key: None, written: Mutex::default() }
    }

    pub(crate) fn note(&self, written: AuditEntry) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(written);
    }

    /// Returns what was written since the last call. If a change has failed, its row is not in the database.
    pub fn take_written(&self) -> Vec<AuditEntry> {
        std::mem::take(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The key of a request, as one process tries to carry it out.
#[derive(Clone, Debug)]
pub struct RequestKey {
    pub(crate) tenant: TenantId,
    pub(crate) actor: String,
    pub(crate) key: String,
    pub(crate) token: Uuid,
}

impl RequestKey {
    /// A key that `actor` chose for a request of a tenant. `token` is new.
    pub fn new(tenant: TenantId, actor: String, key: String, token: Uuid) -> Self {
        Self { tenant, actor, key, token }
    }
}
