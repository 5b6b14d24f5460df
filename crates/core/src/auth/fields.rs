//! The JSON form of a receiver's authentication.
//!
//! The documentation of these types is also their description in the API.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::only_objects;
use crate::word::words;

words! {
    /// How Postrider authenticates to a receiver.
    AuthKind, "a type of authentication" {
        /// HTTP basic authentication.
        Basic = 0, "basic";
        /// OAuth 2.0 client credentials.
        OAuth2 = 1, "oauth2";
        /// A client certificate.
        Mtls = 2, "mtls";
        /// Not at all: only a private authority is trusted.
        Tls = 3, "tls";
    }
}

impl AuthKind {
    /// Returns whether requests have an `Authorization` header.
    pub const fn sets_authorization(self) -> bool {
        matches!(self, Self::Basic | Self::OAuth2)
    }
}

words! {
    /// How a client authenticates to its token endpoint (RFC 6749, section 2.3.1).
    #[derive(Default)]
    ClientAuth, "a way of client authentication" {
        /// With HTTP basic authentication.
        #[default]
        Basic = 0, "client_secret_basic";
        /// With fields of the request's body.
        Post = 1, "client_secret_post";
    }
}

/// How Postrider authenticates to the receiver. The type decides which other fields there are: `basic` has `username` and
/// `password`; `oauth2` has `token_url`, `client_id`, `client_secret`, and optionally `client_auth`, `scope` and `audience`;
/// `mtls` has `certificate` and `private_key`; `tls` has only `ca`, which may stand beside each of the others.
// No Debug: it holds secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(
        as = Auth,
        examples(
            json!({"type": "basic", "username": "postrider", "password": "correct horse battery staple"}),
            json!({
                "type": "oauth2", "token_url": "https://example.com/oauth/token", "client_id": "postrider",
                "client_secret": "correct horse battery staple", "scope": "events.write",
            }),
        )
    )
)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct AuthFields {
    /// The type.
    #[serde(rename = "type")]
    pub kind: AuthKind,
    /// The user name: up to 512 bytes without a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 512))]
    pub username: Option<String>,
    /// The password: up to 2048 bytes. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, max_length = 2048))]
    pub password: Option<Zeroizing<String>>,
    /// The token endpoint, at an address that the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 2048))]
    pub token_url: Option<String>,
    /// The client's id: up to 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 512))]
    pub client_id: Option<String>,
    /// The client's secret: up to 2048 bytes. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, min_length = 1, max_length = 2048))]
    pub client_secret: Option<Zeroizing<String>>,
    /// How the client authenticates to the token endpoint. Default: `client_secret_basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// The scopes to ask for, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 1024))]
    pub scope: Option<String>,
    /// The audience to ask for, which some authorization servers require.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 2048))]
    pub audience: Option<String>,
    /// The client certificate as PEM, followed by those that lead to its authority: up to 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 32768))]
    pub certificate: Option<String>,
    /// The certificate's private key as PEM, not encrypted: up to 32 KiB. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, min_length = 1, max_length = 32768))]
    pub private_key: Option<Zeroizing<String>>,
    /// Certificates of authorities as PEM, to trust in addition to the public ones: up to 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 32768))]
    pub ca: Option<String>,
}

only_objects!(AuthFields);

impl AuthFields {
    /// A type without any other field.
    pub fn new(kind: AuthKind) -> Self {
        Self {
            kind,
            username: None,
            password: None,
            token_url: None,
            client_id: None,
            client_secret: None,
            client_auth: None,
            scope: None,
            audience: None,
            certificate: None,
            private_key: None,
            ca: None,
        }
    }

    /// Returns the fields that are not secret.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { password: None, client_secret: None, private_key: None, ..self }
    }

    /// Returns the name of the secret field that this type has; `None` if it has none.
    pub const fn secret_of(kind: AuthKind) -> Option<&'static str> {
        match kind {
            AuthKind::Basic => Some("password"),
            AuthKind::OAuth2 => Some("client_secret"),
            AuthKind::Mtls => Some("private_key"),
            AuthKind::Tls => None,
        }
    }

    /// Returns the name of a field that has a value; `None` if none but the type has one.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("token_url", self.token_url.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("client_auth", self.client_auth.is_some()),
            ("scope", self.scope.is_some()),
            ("audience", self.audience.is_some()),
            ("certificate", self.certificate.is_some()),
            ("private_key", self.private_key.is_some()),
            ("ca", self.ca.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// Returns how many bytes the values have in all.
    pub(super) fn length(&self) -> usize {
        let texts = [
            &self.username,
            &self.token_url,
            &self.client_id,
            &self.scope,
            &self.audience,
            &self.certificate,
            &self.ca,
        ];
        let secrets = [&self.password, &self.client_secret, &self.private_key];
        texts.into_iter().flatten().map(String::len).sum::<usize>()
            + secrets.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    }
}
