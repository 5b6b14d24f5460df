//! The audit trail: who changed what, and when.

use postrider_core::audit::AuditAction;
use postrider_core::{AuditId, TenantId, id};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Cursor, Limit, List, Moment};

/// Something that was changed, or a secret or a payload that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = AuditEntry))]
pub struct AuditEntryView {
    /// Its id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "aud_01h455vb4pex5vsknk084sn02q"))]
    pub id: AuditId,
    /// When it happened.
    pub at: Moment,
    /// The tenant that it concerns; `operator` for tenants, and for the keys of operators.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "acme"))]
    pub tenant: TenantId,
    /// Who did it: the id of a key, or `environment` for the key in the server's environment.
    #[cfg_attr(feature = "schema", schema(example = "key_01h455vb4pex5vsknk084sn02q"))]
    pub actor: String,
    /// The name of that key then.
    #[cfg_attr(feature = "schema", schema(example = "shop backend"))]
    pub actor_name: String,
    /// The address from which the request came; null if it is not known.
    #[cfg_attr(feature = "schema", schema(required, example = "203.0.113.7"))]
    pub address: Option<String>,
    /// The request, as in its answer's `x-request-id`.
    #[cfg_attr(feature = "schema", schema(required, example = "req_01h455vb4pex5vsknk084sn02q"))]
    pub request_id: Option<String>,
    /// What was done.
    #[cfg_attr(feature = "schema", schema(example = "subscriber.changed"))]
    pub action: String,
    /// What it was done to: an id, or the name of a tenant.
    #[cfg_attr(feature = "schema", schema(example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub target: String,
    /// What it was before, with fingerprints in place of secrets; null if it did not exist, or does not change.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<std::collections::HashMap<String, Value>>))]
    pub before: Value,
    /// What it is afterwards; null if it does not exist any more, or does not change.
    #[cfg_attr(feature = "schema", schema(required, value_type = Option<std::collections::HashMap<String, Value>>))]
    pub after: Value,
}

/// A page of the audit trail.
pub type AuditList = List<AuditEntryView>;

/// Selects a page of the audit trail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct AuditQuery {
    /// Only what this actor did: the id of a key, or `environment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only this action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<AuditAction>))]
    pub action: Option<AuditAction>,
    /// Only what was done to this: an id, or the name of a tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only from this moment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<crate::moment::MomentInput>))]
    pub since: Option<Moment>,
    /// Only before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<crate::moment::MomentInput>))]
    pub until: Option<Moment>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Audit>>,
}
