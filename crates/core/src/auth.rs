//! How Postrider authenticates to a receiver, beyond signatures and headers.
//!
//! [`AuthFields`] is the form in JSON; a [`ReceiverAuth`] is one that has been validated. Certificates and keys are only
//! bounded here: `postrider-delivery` reads them.

mod fields;

#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

pub use self::fields::{AuthFields, AuthKind, ClientAuth};
use crate::TargetUrl;
use crate::target::TargetUrlError;

/// How Postrider authenticates to a receiver, and which authority it trusts there in addition to the public ones.
///
/// `Debug` shows the kind only.
///
/// ```
/// use postrider_core::auth::{AuthFields, ReceiverAuth};
///
/// let json = r#"{"type": "basic", "username": "postrider", "password": "s3cret"}"#;
/// let auth = ReceiverAuth::try_from(serde_json::from_str::<AuthFields>(json)?)?;
/// assert_eq!(format!("{auth:?}"), "ReceiverAuth(basic)");
///
/// let incomplete = serde_json::from_str::<AuthFields>(r#"{"type": "basic", "username": "postrider"}"#)?;
/// let error = ReceiverAuth::try_from(incomplete).unwrap_err();
/// assert_eq!(error.to_string(), "password: is required for the type `basic`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverAuth {
    credentials: Credentials,
    ca: Option<String>,
}

/// What Postrider authenticates with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing: only an authority is trusted.
    None,
    /// HTTP basic authentication (RFC 7617).
    Basic {
        /// The user name, without a colon.
        username: String,
        /// The password, which may be empty.
        password: Zeroizing<String>,
    },
    /// An access token that Postrider obtains (RFC 6749, §4.4).
    OAuth2(OAuth2),
    /// A client certificate (RFC 8446, §4.4.2).
    ClientCertificate {
        /// The certificate and those that lead to its authority, as PEM.
        certificate: String,
        /// Its private key, as PEM.
        private_key: Zeroizing<String>,
    },
}

/// Where and how an access token is obtained.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: TargetUrl,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Zeroizing<String>,
    /// How the client authenticates to the token endpoint.
    pub client_auth: ClientAuth,
    /// The scopes to ask for, separated by spaces.
    pub scope: Option<String>,
    /// The audience to ask for, which some authorization servers require.
    pub audience: Option<String>,
}

/// Which field is invalid, and what was expected of it. The message contains no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct AuthError {
    /// The name of the field in JSON.
    pub field: &'static str,
    /// What was expected.
    pub reason: AuthErrorReason,
}

/// What was expected of an invalid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthErrorReason {
    /// The type needs the field.
    #[error("is required for the type `{0}`")]
    Required(AuthKind),
    /// The type has no such field.
    #[error("does not belong to the type `{0}`")]
    Foreign(AuthKind),
    /// The text is too short or too long.
    #[error("must have {0} to {1} bytes")]
    Length(usize, usize),
    /// The text has a control character.
    #[error("must not have control characters")]
    Control,
    /// The user name has a colon.
    #[error("must not have a colon, which ends the user name (RFC 7617)")]
    Colon,
    /// The scope is not a list of scope tokens.
    #[error(
        "must be scopes separated by single spaces, without quotes and backslashes (RFC 6749, section 3.3)"
    )]
    Scope,
    /// The token endpoint is not a URL that requests can be sent to.
    #[error(transparent)]
    Url(#[from] TargetUrlError),
}

/// The greatest lengths in bytes.
const NAME: usize = 512;
const SECRET: usize = 2048;
const SCOPE: usize = 1024;
const PEM: usize = 32 * 1024;

impl ReceiverAuth {
    /// Returns what Postrider authenticates with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the authorities to trust in addition to the public ones, as PEM; `None` if there are none.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Returns the type.
    pub fn kind(&self) -> AuthKind {
        match self.credentials {
            Credentials::None => AuthKind::Tls,
            Credentials::Basic { .. } => AuthKind::Basic,
            Credentials::OAuth2(_) => AuthKind::OAuth2,
            Credentials::ClientCertificate { .. } => AuthKind::Mtls,
        }
    }

    /// Returns all fields, with the secret ones.
    pub fn fields(&self) -> AuthFields {
        let mut fields = AuthFields { ca: self.ca.clone(), ..AuthFields::new(self.kind()) };
        match self.credentials.clone() {
            Credentials::None => {}
            Credentials::Basic { username, password } => {
                (fields.username, fields.password) = (Some(username), Some(password));
            }
            Credentials::OAuth2(OAuth2 {
                token_url,
                client_id,
                client_secret,
                client_auth,
                scope,
                audience,
            }) => {
                fields.token_url = Some(token_url.as_str().to_owned());
                (fields.client_id, fields.client_secret) = (Some(client_id), Some(client_secret));
                fields.client_auth = (client_auth != ClientAuth::default()).then_some(client_auth);
                (fields.scope, fields.audience) = (scope, audience);
            }
            Credentials::ClientCertificate { certificate, private_key } => {
                (fields.certificate, fields.private_key) = (Some(certificate), Some(private_key));
            }
        }
        fields
    }

    /// Serialises all fields for sealing.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let fields = self.fields();
        // With room for all, so that no copy is left behind while it grows. A struct of strings always has a JSON form.
        let mut json = Zeroizing::new(Vec::with_capacity(2 * fields.length() + 256));
        let _ = serde_json::to_writer(&mut *json, &fields);
        json
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes). `None` if it is not that; the reason is left out, because it could
    /// reveal a secret.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::try_from(serde_json::from_slice::<AuthFields>(bytes).ok()?).ok()
    }
}

impl TryFrom<AuthFields> for ReceiverAuth {
    type Error = AuthError;

    /// Validates the fields, and reports the first that is invalid.
    fn try_from(mut fields: AuthFields) -> Result<Self, AuthError> {
        let kind = fields.kind;
        let ca = match kind {
            AuthKind::Tls => Some(required(kind, "ca", fields.ca.take(), 1, PEM)?),
            _ => optional("ca", fields.ca.take(), PEM)?,
        };
        let credentials = match kind {
            AuthKind::Tls => Credentials::None,
            AuthKind::Basic => Credentials::Basic {
                username: username(required(kind, "username", fields.username.take(), 1, NAME)?)?,
                password: secret(kind, "password", fields.password.take(), 0, SECRET)?,
            },
            AuthKind::OAuth2 => Credentials::OAuth2(OAuth2 {
                token_url: token_url(&required(kind, "token_url", fields.token_url.take(), 1, usize::MAX)?)?,
                client_id: required(kind, "client_id", fields.client_id.take(), 1, NAME)?,
                client_secret: secret(kind, "client_secret", fields.client_secret.take(), 1, SECRET)?,
                client_auth: fields.client_auth.take().unwrap_or_default(),
                scope: fields.scope.take().map(scope).transpose()?,
                audience: optional("audience", fields.audience.take(), SECRET)?,
            }),
            AuthKind::Mtls => Credentials::ClientCertificate {
                certificate: required(kind, "certificate", fields.certificate.take(), 1, PEM)?,
                private_key: secret(kind, "private_key", fields.private_key.take(), 1, PEM)?,
            },
        };
        match fields.first_given() {
            Some(field) => Err(AuthError { field, reason: AuthErrorReason::Foreign(kind) }),
            None => Ok(Self { credentials, ca }),
        }
    }
}

impl fmt::Debug for ReceiverAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiverAuth({})", self.kind())
    }
}

fn required(
    kind: AuthKind,
    field: &'static str,
    value: Option<String>,
    least: usize,
    most: usize,
) -> Result<String, AuthError> {
    let text = value.ok_or(AuthError { field, reason: AuthErrorReason::Required(kind) })?;
    checked(field, &text, least, most)?;
    Ok(text)
}

fn secret(
    kind: AuthKind,
    field: &'static str,
    value: Option<Zeroizing<String>>,
    least: usize,
    most: usize,
) -> Result<Zeroizing<String>, AuthError> {
    let text = value.ok_or(AuthError { field, reason: AuthErrorReason::Required(kind) })?;
    checked(field, &text, least, most)?;
    Ok(text)
}

fn optional(field: &'static str, value: Option<String>, most: usize) -> Result<Option<String>, AuthError> {
    if let Some(text) = &value {
        checked(field, text, 1, most)?;
    }
    Ok(value)
}

fn checked(field: &'static str, text: &str, least: usize, most: usize) -> Result<(), AuthError> {
    if !(least..=most).contains(&text.len()) {
        return Err(AuthError { field, reason: AuthErrorReason::Length(least, most) });
    }
    let is_pem = most == PEM;
    let is_allowed = |c: char| !c.is_control() || (is_pem && matches!(c, '\n' | '\r' | '\t'));
    if !text.chars().all(is_allowed) {
        return Err(AuthError { field, reason: AuthErrorReason::Control });
    }
    Ok(())
}

fn username(name: String) -> Result<String, AuthError> {
    if name.contains(':') {
        return Err(AuthError { field: "username", reason: AuthErrorReason::Colon });
    }
    Ok(name)
}

fn token_url(text: &str) -> Result<TargetUrl, AuthError> {
    TargetUrl::parse(text).map_err(|error| AuthError { field: "token_url", reason: error.into() })
}

/// Validates scopes (RFC 6749, §3.3).
fn scope(text: String) -> Result<String, AuthError> {
    checked("scope", &text, 1, SCOPE)?;
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
    };
    if !text.split(' ').all(is_token) {
        return Err(AuthError { field: "scope", reason: AuthErrorReason::Scope });
    }
    Ok(text)
}
