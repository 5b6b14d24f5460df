//! What the audit trail says about a tenant.

use serde_json::{Value, json};

use super::Tenant;
use crate::retention::Age;

/// Describes a tenant.
pub(super) fn described(tenant: &Tenant) -> Value {
    let age = |age: Option<_>| age.map(|age| Age::For(age).to_string());
    let retention = tenant.retention;
    json!({
        "name": tenant.name,
        "metadata": tenant.metadata,
        "active": tenant.active,
        "only_registered_types": tenant.only_registered,
        "retention": {
            "history": age(retention.history), "payloads": age(retention.payloads), "dead": age(retention.dead),
        },
        "egress_proxy": tenant.egress_proxy.as_ref().map(ToString::to_string),
    })
}
