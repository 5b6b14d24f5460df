//! Links to the portal, where the owners of subscribers look after them.

use std::collections::BTreeMap;

use postrider_core::policy::Span;
use postrider_core::{SubscriberId, TenantId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Moment;

/// A link to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct PortalLinkRequest {
    /// The tenant whose subscribers the portal shows. Default: the tenant for which the request acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, pattern = "^[a-z0-9_-]{1,64}$", example = "default"))]
    pub tenant: Option<String>,
    /// The only subscribers that the portal shows, up to 100. Default: all of the tenant, and new ones can be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 100, example = json!(["sub_01h455vb4pex5vsknk084sn02q"])))]
    pub subscriber_ids: Option<Vec<String>>,
    /// What the owner may do: scopes that the key of this request has, too. Possible are `subscribers:read`,
    /// `subscribers:write`, `deliveries:read`, `deliveries:retry`, `payloads:read`, `events:write` (test events),
    /// `secrets:read`, `secrets:rotate` and `types:read`. Default: all of these that the key has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["subscribers:read", "deliveries:read"]))
    )]
    pub scopes: Option<Vec<String>>,
    /// How long the link works: 1 s to 24 h. It works once. Default: 5 min.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Span, required = false))]
    pub expires_in: Option<Span>,
    /// How long the session lasts that the link begins: 1 min to 12 h. Default: 1 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Span, required = false))]
    pub session_ttl: Option<Span>,
    /// Where the portal's link back leads: an `https` or `http` URL. Default: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, max_length = 2048, example = "https://app.example.com/settings")
    )]
    pub return_url: Option<String>,
    /// The origins whose pages may frame the portal, up to 10. Frames need `https`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, max_items = 10, example = json!(["https://app.example.com"]))
    )]
    pub frame_ancestors: Option<Vec<String>>,
    /// The portal's colours, as `#rrggbb`, by name: `background`, `surface`, `text`, `muted`, `accent`, `accent_text`. Texts must
    /// stand out from what they are on by a contrast of at least 4.5 (WCAG 2.2, 1.4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<BTreeMap<String, String>>, example = json!({"accent": "#0b57d0", "accent_text": "#ffffff"}))
    )]
    pub theme: Option<BTreeMap<String, String>>,
}

/// A link to the portal.
// No Debug: it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = PortalLink))]
pub struct PortalLinkView {
    /// The URL, which works once. The secret is in its fragment, which browsers do not send to servers.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, example = "https://hooks.example.com/portal?link=9f86…#60303a…")
    )]
    pub url: Zeroizing<String>,
    /// Until when it works.
    pub expires_at: Moment,
    /// The tenant whose subscribers the portal shows.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "default"))]
    pub tenant: TenantId,
    /// The only subscribers that it shows; null for all.
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, required))]
    pub subscriber_ids: Option<Vec<SubscriberId>>,
    /// What the owner may do.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, example = json!(["subscribers:read", "deliveries:read"])))]
    pub scopes: Vec<postrider_core::key::Scope>,
}
