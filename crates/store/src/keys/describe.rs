//! What the audit trail says about a key.

use postrider_core::key::Scope;
use postrider_core::{TenantId, Timestamp};
use serde_json::{Value, json};

use super::ApiKey;
use crate::audit::fingerprint;

/// Describes a key, without its text.
pub(super) fn described(key: &ApiKey) -> Value {
    let powers = &key.powers;
    json!({
        "name": key.name,
        "tenant": powers.tenant.as_ref().map_or("*", TenantId::as_str),
        "scopes": powers.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
        "limits": powers.limits,
        "expires_at": powers.expires_at.map(Timestamp::millis),
        "revoked_at": key.revoked_at.map(Timestamp::millis),
        "key_fingerprint": fingerprint(key.hash.as_bytes()),
    })
}
