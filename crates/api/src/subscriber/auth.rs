//! How receivers are authenticated to, as it is shown.

use postrider_core::auth::{AuthKind, ClientAuth};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// How Postrider authenticates to a receiver, without secrets. Fields that the type does not have are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ShownAuth))]
pub struct AuthView {
    /// The type; null if the server lacks the key that decrypts it.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schema(required))]
    pub kind: Option<AuthKind>,
    /// The user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The client's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// How the client authenticates to the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// The scopes to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The audience to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The SHA-256 of the client certificate, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// The SHA-256 of the first certificate of `ca`, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_sha256: Option<String>,
    /// When the first of the certificates expires. The owner is warned two weeks before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Moment>,
}
