//! Tenants: registered, changed, shown and deleted.

use std::collections::BTreeMap;

use postrider_core::{TenantId, id, only_objects};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::stats::{DeliveryStatsView, SubscriberStatsView};
use crate::subscriber::Change;
use crate::{Cursor, Limit, List, Moment};

/// A tenant to register.
// No Debug: it may hold a proxy's password.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TenantRequest {
    /// The tenant's name in `X-Tenant-ID`: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, required = true, pattern = "^[a-z0-9_-]{1,64}$", example = "acme")
    )]
    pub id: Option<String>,
    /// A name for people: up to 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 200, example = "Acme Ltd."))]
    pub name: Option<String>,
    /// Texts by name, up to 4096 bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(example = json!({"plan": "gold"})))]
    pub metadata: Option<BTreeMap<String, String>>,
    /// How long the tenant's data is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<TenantRetentionRequest>,
    /// The proxy for the tenant's deliveries, instead of the deployment's: `http://`, `socks5://` or `socks5h://` with
    /// `user:password@host:port`, of at most 2,048 bytes. With `socks5h` the proxy resolves host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, required = false, max_length = 2048, example = "socks5://acme:s3cret@proxy.internal:1080")
    )]
    pub egress_proxy: Option<Zeroizing<String>>,
}

/// Changes to a tenant. Fields that are absent keep their value; members of `metadata` and `retention` are changed one by
/// one, and null removes them (RFC 7396).
// No Debug: it may hold a proxy's password.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TenantChangeRequest {
    /// A name for people: up to 200 characters.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, max_length = 200, example = "Acme Ltd."))]
    pub name: Change<String>,
    /// Texts by name, up to 4096 bytes in all.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<BTreeMap<String, Option<String>>>, example = json!({"plan": "gold"}))
    )]
    pub metadata: Change<BTreeMap<String, Option<String>>>,
    /// Whether the tenant's events are taken and delivered. While it is false they are refused with 403, and deliveries wait.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = bool, required = false))]
    pub active: Change<bool>,
    /// Whether events of types that are not registered are refused. See `/v1/event-types`.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = bool, required = false))]
    pub only_registered_types: Change<bool>,
    /// How long the tenant's data is kept.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<TenantRetentionRequest>))]
    pub retention: Change<TenantRetentionRequest>,
    /// The proxy for the tenant's deliveries, instead of the deployment's; null removes it. As shown, with its credentials
    /// masked, it is refused: repeat them.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, max_length = 2048, example = "socks5://acme:s3cret@proxy.internal:1080")
    )]
    pub egress_proxy: Change<Zeroizing<String>>,
}

/// How long a tenant's data is kept: an age such as `30d` or `12h`. What is absent or null is kept for as long as in the rest
/// of the deployment, and so is what would be kept for longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TenantRetentionChange))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct TenantRetentionRequest {
    /// Events, deliveries and attempts.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "30d"))]
    pub history: Change<String>,
    /// The data of events, and the responses to their deliveries.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "7d"))]
    pub payloads: Change<String>,
    /// Dead letters, from the moment at which they died. Not shorter than the history.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "60d"))]
    pub dead: Change<String>,
}

only_objects!(TenantRetentionRequest);

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Tenant))]
pub struct TenantView {
    /// The tenant's name in `X-Tenant-ID`.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "acme"))]
    pub id: TenantId,
    /// A name for people.
    #[cfg_attr(feature = "schema", schema(example = "Acme Ltd."))]
    pub name: String,
    /// Texts by name.
    #[cfg_attr(feature = "schema", schema(example = json!({"plan": "gold"})))]
    pub metadata: BTreeMap<String, String>,
    /// Whether the tenant's events are taken and delivered.
    pub active: bool,
    /// Whether events of types that are not registered are refused.
    pub only_registered_types: bool,
    /// How long the tenant's data is kept.
    pub retention: TenantRetentionView,
    /// The proxy for the tenant's deliveries, with its credentials masked; null for the deployment's. `***` if the key is
    /// missing under which it was encrypted.
    #[cfg_attr(feature = "schema", schema(required, example = "socks5://***:***@proxy.internal:1080"))]
    pub egress_proxy: Option<String>,
    /// What the tenant has.
    pub counts: TenantCountsView,
    /// When the tenant was registered.
    pub created_at: Moment,
    /// The tenant's deletion; null unless it was requested.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deletion: Option<TenantDeletionView>,
}

/// How long a tenant's data is kept; null where it is as long as in the rest of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TenantRetention))]
pub struct TenantRetentionView {
    /// Events, deliveries and attempts.
    #[cfg_attr(feature = "schema", schema(required, example = "30d"))]
    pub history: Option<String>,
    /// The data of events, and the responses to their deliveries.
    #[cfg_attr(feature = "schema", schema(required, example = "7d"))]
    pub payloads: Option<String>,
    /// Dead letters.
    #[cfg_attr(feature = "schema", schema(required, example = "60d"))]
    pub dead: Option<String>,
}

/// What a tenant has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TenantCounts))]
pub struct TenantCountsView {
    /// Its subscribers.
    pub subscribers: SubscriberStatsView,
    /// Its deliveries of the last 30 days of UTC, today included. Those of the last seconds may be missing.
    pub deliveries: DeliveryStatsView,
}

/// A deletion that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TenantDeletion))]
pub struct TenantDeletionView {
    /// When it was requested.
    pub requested_at: Moment,
    /// How many rows are deleted so far.
    pub rows: u64,
}

/// A page of tenants.
pub type TenantList = List<TenantView>;

/// Selects a page of tenants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TenantsQuery {
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::TenantPlace>>,
}
