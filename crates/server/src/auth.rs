//! Authentication: the operator's key, and the tenant for which the operator acts.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use postrider_core::TenantId;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::problem::Problem;
use crate::state::ApiState;

/// The header that names the tenant for which the operator acts.
pub(crate) const TENANT: &str = "x-tenant-id";

const MIN_CHARACTERS: usize = 32;

/// The operator's key: at least 32 visible ASCII characters. This type holds only its hash.
///
/// ```
/// use postrider_server::AdminKey;
///
/// let key: AdminKey = "0123456789abcdef0123456789abcdef".parse()?;
/// assert_eq!(format!("{key:?}"), "AdminKey(…)");
/// assert!("too short".parse::<AdminKey>().is_err());
/// # Ok::<(), postrider_server::AdminKeyError>(())
/// ```
#[derive(Clone)]
pub struct AdminKey([u8; 32]);

/// The text is not a valid operator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator's key must have at least {MIN_CHARACTERS} characters, all of them visible ASCII")]
pub struct AdminKeyError;

impl AdminKey {
    /// Whether `given` is the key. The time it takes depends only on the length of `given`.
    fn admits(&self, given: &[u8]) -> bool {
        // Hashes have one length, so that the time of the comparison does not reveal the length of the key.
        hash(given).ct_eq(&self.0).into()
    }
}

impl FromStr for AdminKey {
    type Err = AdminKeyError;

    fn from_str(text: &str) -> Result<Self, AdminKeyError> {
        if text.len() < MIN_CHARACTERS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AdminKeyError);
        }
        Ok(Self(hash(text.as_bytes())))
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// The tenant for which an authenticated request acts.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
}

/// Authenticates a request.
///
/// # Errors
/// 401 if the key is missing or wrong, 422 if the tenant's name is invalid.
pub(crate) fn caller(state: &ApiState, headers: &HeaderMap) -> Result<Caller, Problem> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized("send the operator's key as `Authorization: Bearer <key>`"));
    };
    if !bearer(given.as_bytes()).is_some_and(|key| state.config.admin_key.admits(key)) {
        return Err(Problem::unauthorized("the key is wrong"));
    }
    let Some(tenant) = headers.get(TENANT) else { return Ok(Caller { tenant: TenantId::default() }) };
    match tenant.to_str().unwrap_or_default().parse() {
        Ok(tenant) => Ok(Caller { tenant }),
        Err(error) => Err(Problem::field("X-Tenant-ID", &error)),
    }
}

/// The key of `Bearer <key>`; the scheme's case does not matter (RFC 9110, §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, key) = value.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii())
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!("a route of the API did not pass through authentication");
            Problem::internal()
        })
    }
}

/// The `traceparent` of the request, if it has a valid one.
pub(crate) struct Trace(pub(crate) Option<String>);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        use postrider_telemetry::context::{TraceParent, current_traceparent};

        // The span of this request continues the incoming trace. Without an exporter there is no span.
        let given = || parts.headers.get("traceparent")?.to_str().ok()?.parse::<TraceParent>().ok();
        Ok(Self(current_traceparent().or_else(|| given().map(|parent| parent.to_string()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_key_is_admitted() {
        let key: AdminKey = "k".repeat(32).parse().unwrap();
        assert!(key.admits("k".repeat(32).as_bytes()));
        for other in ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32)] {
            assert!(!key.admits(other.as_bytes()), "{other}");
        }
        assert!("a key of thirty-two characters or more".parse::<AdminKey>().is_err(), "spaces");
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for (value, key) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), key.map(str::as_bytes), "{value:?}");
        }
    }
}
