//! Authentication: the operator's key, and the tenant for which the operator acts.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use postrider_core::TenantId;

use crate::problem::Problem;
use crate::state::ApiState;

/// The header that names the tenant for which the operator acts.
pub(crate) const TENANT: &str = "x-tenant-id";

/// The tenant for which an authenticated request acts.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
}

/// Headers that a request may have once. With two of them, programs in front could decide by another one than this server.
const ONCE: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static(TENANT), HeaderName::from_static("idempotency-key")];

/// Refuses a request with two of a header that must be unambiguous.
///
/// # Errors
/// 400, with the name of the header.
pub(crate) fn unambiguous(headers: &HeaderMap) -> Result<(), Problem> {
    match ONCE.into_iter().find(|name| headers.get_all(name).iter().nth(1).is_some()) {
        Some(name) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, format!("the header `{name}` is given twice")))
        }
        None => Ok(()),
    }
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
