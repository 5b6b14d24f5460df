//! API keys: created, changed, rotated, shown and revoked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postrider_core::key::Scope;
use postrider_core::tenant::TenantIdError;
use postrider_core::{KeyId, SubscriberId, TenantId, id, only_objects};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::subscriber::Change;
use crate::{Cursor, Limit, List, Moment};

/// A key to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct KeyRequest {
    /// A name for people: 1 to 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, required = true, min_length = 1, max_length = 200, example = "shop backend")
    )]
    pub name: Option<String>,
    /// The tenant for which the key acts, or `*` for an operator's key. Default: the tenant for which the request acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "acme"))]
    pub tenant: Option<String>,
    /// What the key may do: scopes, or names that stand for several: `publisher`, `observer`, `support`, `integrator`,
    /// `tenant_admin`, `operator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Vec<String>, required = true, min_items = 1, example = json!(["publisher", "events:read"]))
    )]
    pub scopes: Option<Vec<String>>,
    /// How far the key reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<KeyLimitsRequest>,
    /// Until when the key is valid. Default: for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<crate::moment::MomentInput>))]
    pub expires_at: Option<Moment>,
}

/// Changes to a key. Fields that are absent keep their value; members of `limits` are changed one by one, and null resets
/// them (RFC 7396).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct KeyChangeRequest {
    /// A name for people: 1 to 200 characters.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 200, example = "shop backend")
    )]
    pub name: Change<String>,
    /// What the key may do, as when it was created.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1, example = json!(["support"]))
    )]
    pub scopes: Change<Vec<String>>,
    /// How far the key reaches. Null: as far as its tenant.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<KeyLimitsRequest>))]
    pub limits: Change<KeyLimitsRequest>,
    /// Until when the key is valid. Null: for good.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<crate::moment::MomentInput>))]
    pub expires_at: Change<Moment>,
}

/// How far a key reaches. What is absent or empty limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(
    as = KeyLimitsChange, example = json!({"event_types": ["order.*"], "cidrs": ["203.0.113.0/24"], "requests_per_second": 100, "burst": 200})
))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct KeyLimitsRequest {
    /// Event patterns: the event types that the key may dispatch. Up to 100.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["order.*"])))]
    pub event_types: Change<Vec<String>>,
    /// The subscribers to which the key is limited, up to 100. It can then make only calls that concern subscribers and their
    /// deliveries, and list event types.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["sub_01h455vb4pex5vsknk084sn02q"]))
    )]
    pub subscriber_ids: Change<Vec<String>>,
    /// The networks from which the key may be used. Up to 100.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["203.0.113.0/24"])))]
    pub cidrs: Change<Vec<String>>,
    /// How many requests per second the key may make on average: 1 to 1,000,000. Each server counts on its own.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000, example = 100))]
    pub requests_per_second: Change<u32>,
    /// How many of them it may make at once: 1 to 1,000,000. Default: as many as in a second.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000, example = 200))]
    pub burst: Change<u32>,
}

only_objects!(KeyLimitsRequest);

/// The tenant for which a key acts: a name, or `*` for every tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyTenant {
    /// Every tenant: the key is an operator's.
    All,
    /// That tenant.
    Of(TenantId),
}

impl FromStr for KeyTenant {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, TenantIdError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::Of) }
    }
}

impl TryFrom<String> for KeyTenant {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, TenantIdError> {
        text.parse()
    }
}

impl From<KeyTenant> for String {
    fn from(tenant: KeyTenant) -> Self {
        tenant.to_string()
    }
}

impl fmt::Display for KeyTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Of(tenant) => tenant.fmt(f),
        }
    }
}

/// A key, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Key))]
pub struct KeyView {
    /// The key's id, which its text contains.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "key_01h455vb4pex5vsknk084sn02q"))]
    pub id: KeyId,
    /// A name for people.
    #[cfg_attr(feature = "schema", schema(example = "shop backend"))]
    pub name: String,
    /// The tenant for which the key acts; `*` if it is an operator's.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "acme"))]
    pub tenant: KeyTenant,
    /// What the key may do.
    pub scopes: Vec<Scope>,
    /// How far the key reaches.
    pub limits: KeyLimitsView,
    /// When the key was created.
    pub created_at: Moment,
    /// Who created it: the id of a key, or `environment` for the key in the server's environment.
    #[cfg_attr(feature = "schema", schema(example = "environment"))]
    pub created_by: String,
    /// Until when the key is valid; null if it is for good.
    #[cfg_attr(feature = "schema", schema(required))]
    pub expires_at: Option<Moment>,
    /// When the key was revoked; null unless it was.
    #[cfg_attr(feature = "schema", schema(required))]
    pub revoked_at: Option<Moment>,
    /// The minute in which the key was used last, noted a few seconds later; null if it never was.
    #[cfg_attr(feature = "schema", schema(required))]
    pub last_used_at: Option<Moment>,
}

/// How far a key reaches. What is null or empty limits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = KeyLimits))]
pub struct KeyLimitsView {
    /// The event types that the key may dispatch.
    #[cfg_attr(feature = "schema", schema(example = json!(["order.*"])))]
    pub event_types: Vec<String>,
    /// The subscribers to which the key is limited.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, example = json!(["sub_01h455vb4pex5vsknk084sn02q"])))]
    pub subscriber_ids: Vec<SubscriberId>,
    /// The networks from which the key may be used.
    #[cfg_attr(feature = "schema", schema(example = json!(["203.0.113.0/24"])))]
    pub cidrs: Vec<String>,
    /// How many requests per second the key may make on average.
    #[cfg_attr(feature = "schema", schema(required, example = 100))]
    pub requests_per_second: Option<u32>,
    /// How many of them it may make at once.
    #[cfg_attr(feature = "schema", schema(required, example = 200))]
    pub burst: Option<u32>,
}

/// A key with its text. This type has no `Debug`, so that no log can show it.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = CreatedKey))]
pub struct CreatedKeyView {
    /// The key.
    #[serde(flatten)]
    pub view: KeyView,
    /// The text of the key, for `Authorization: Bearer <key>`. No other answer shows it.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, example = "prk_00000000000000000000000007_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13YUZsR")
    )]
    pub key: Zeroizing<String>,
}

/// How to rotate a key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RotateKeyRequest {
    /// For how many seconds the text before is accepted beside the new one: up to thirty days. Default: one day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(maximum = 2_592_000, example = 3600))]
    pub overlap_seconds: Option<u64>,
}

impl RotateKeyRequest {
    /// The overlap if the request does not name one.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
    /// The longest overlap.
    pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);
}

/// A page of keys.
pub type KeyList = List<KeyView>;

/// Selects a page of keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct KeysQuery {
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Key>>,
}
