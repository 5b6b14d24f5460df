//! Subscribers' secrets: read and rotated.

use std::time::Duration;

use postrider_core::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Moment;

/// A secret. This type has no `Debug`, so that no log can show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Secret))]
pub struct SecretView {
    /// The secret that signs deliveries.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))]
    pub secret: Zeroizing<String>,
    /// The key that receivers verify with (`whpk_…`), if the secret is an Ed25519 key (`whsk_…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = false))]
    pub public_key: Option<String>,
}

/// A subscriber's secret, and the replaced ones that still sign beside it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Secrets))]
pub struct SecretsView {
    /// The secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// The replaced secrets that still sign, newest first; at most 10. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub previous: Vec<PreviousSecretView>,
}

/// A secret that was replaced.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = PreviousSecret))]
pub struct PreviousSecretView {
    /// The secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// Until when it signs.
    pub expires_at: Moment,
}

impl From<&Secret> for SecretView {
    fn from(secret: &Secret) -> Self {
        Self { secret: Zeroizing::new(secret.expose().to_owned()), public_key: secret.public_key() }
    }
}

/// How to rotate a secret.
// No Debug: it holds a secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RotateRequest {
    /// The new secret: 8 to 256 characters, or a `whsec_` or `whsk_` key. Default: the server generates one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = Option<String>, min_length = 8, max_length = 256,
            example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        )
    )]
    pub secret: Option<Zeroizing<String>>,
    /// For how many seconds the present secret signs beside the new one: up to seven days. Default: one day. With 0, no
    /// replaced secret signs any more, whenever it was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(maximum = 604_800))]
    pub overlap_seconds: Option<u64>,
}

impl RotateRequest {
    /// The overlap if the request does not name one.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
    /// The longest overlap.
    pub const MAX_OVERLAP: Duration = Duration::from_hours(7 * 24);
}
