//! Authentication and authorisation: whose key a request shows, for which tenant it acts, and whether it may.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode, header};
use postrider_core::key::{KeyHash, PresentedKey, PresentedKeyError};
use postrider_core::{KeyId, TenantId};

#[cfg(feature = "console")]
use {
    crate::caller::Guest,
    postrider_core::key::{KeyLimits, Powers, Scopes},
    postrider_core::portal::Portal,
    postrider_store::sessions::name as session_name,
    std::sync::Arc,
    std::time::Duration,
    tokio::time::Instant,
};

use crate::address;
use crate::caller::{Actor, Caller};
use crate::known_keys::Fresh;
use crate::needs::Needs;
use crate::problem::Problem;
use crate::rate::Quota;
use crate::state::ApiState;

/// The header that names the tenant for which an operator acts.
pub(crate) const TENANT: &str = "x-tenant-id";

/// Headers that a request may have once. With two of them, programs in front could decide by another one than this server.
const ONCE: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::HOST,
    HeaderName::from_static(TENANT),
    HeaderName::from_static("idempotency-key"),
];

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

/// Identifies the key of a request.
///
/// # Errors
/// 401 if the key is missing, wrong, expired or revoked; 429 after too many wrong ones from the same address.
pub(crate) async fn actor(
    state: &ApiState,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Actor, Problem> {
    #[cfg(feature = "console")]
    if let Some(grant) = extensions.get::<Grant>() {
        return of_session(state, grant).await;
    }
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized("send a key as `Authorization: Bearer <key>`"));
    };
    let wrong = |detail: &str| {
        let address = address::of(extensions, headers, &state.config.trusted_proxies);
        match state.guesses.note(address) {
            Ok(()) => Problem::unauthorized(detail),
            Err(exceeded) => {
                state.counts.limited_addresses.increment(1);
                Problem::limited("too many wrong keys from this address; try again later", exceeded)
            }
        }
    };
    let Some(text) = bearer(given.as_bytes()) else { return Err(wrong("the key is wrong")) };
    let hash = KeyHash::of(text);
    if state.config.admin_keys.admit(&hash) {
        return Ok(Actor::Environment);
    }
    let presented = std::str::from_utf8(text).unwrap_or_default().parse::<PresentedKey>();
    let presented = presented.map_err(|error| match error {
        PresentedKeyError::Prefix => wrong("the key is wrong"),
        PresentedKeyError::Mistyped => wrong(&error.to_string()),
    })?;
    let is_suspect =
        || state.guesses.is_used_up(address::of(extensions, headers, &state.config.trusted_proxies));
    match of_key(state, presented.id(), &hash, is_suspect).await? {
        Some(actor) => Ok(actor),
        None => Err(wrong("the key is wrong")),
    }
}

/// Returns the actor of a key; `None` if it does not exist or has another text. `is_suspect`: whether the request comes from an
/// address that has shown too many wrong keys.
///
/// # Errors
/// 401 if the key has expired or was revoked.
async fn of_key(
    state: &ApiState,
    id: KeyId,
    hash: &KeyHash,
    is_suspect: impl Fn() -> bool,
) -> Result<Option<Actor>, Problem> {
    let known = match state.keys.fresh(id) {
        Fresh::Known(known) => Some(known),
        Fresh::Missing => None,
        Fresh::Unread => state.keys.find(id, is_suspect()).await?,
    };
    let now = state.store.ids().clock().now();
    let Some(known) = known.filter(|known| known.key.accepts(hash, now)) else {
        return Ok(None);
    };
    if known.key.revoked_at.is_some() {
        return Err(Problem::unauthorized("the key was revoked"));
    }
    if known.key.powers.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Problem::unauthorized("the key has expired"));
    }
    state.keys.note_use(&known, now);
    Ok(Some(Actor::Key(known)))
}

/// Stands for the key of a request that the console makes for a session. Only this crate can make one.
#[cfg(feature = "console")]
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The session.
    pub(crate) session: [u8; 32],
    /// Its key; `None` for the key in the server's environment.
    pub(crate) key: Option<KeyId>,
    /// The hash of the text that was shown.
    pub(crate) hash: KeyHash,
    /// When the session was read.
    pub(crate) read_at: Instant,
    /// What the session is, if it is one in the portal.
    pub(crate) portal: Option<(TenantId, Arc<Portal>)>,
}

/// How long a session may go on that has been ended.
#[cfg(feature = "console")]
const SESSION_FRESH: Duration = Duration::from_secs(5);

/// Identifies the key of a session.
///
/// # Errors
/// 401 if the session has ended, or its key is no longer valid.
#[cfg(feature = "console")]
pub(crate) async fn of_session(state: &ApiState, grant: &Grant) -> Result<Actor, Problem> {
    // Of the requests for one page none reads it again; a live tail does.
    if grant.read_at.elapsed() >= SESSION_FRESH && state.store.session(&grant.session).await?.is_none() {
        return Err(Problem::unauthorized("the session has ended"));
    }
    let actor = match grant.key {
        Some(key) => of_key(state, key, &grant.hash, || false).await?,
        None => state.config.admin_keys.admit(&grant.hash).then_some(Actor::Environment),
    };
    let actor = actor.ok_or_else(|| Problem::unauthorized("the key of the session is no longer valid"))?;
    let Some((tenant, portal)) = &grant.portal else { return Ok(actor) };
    // No more than the key may do now. One that is limited to some subscribers could not make the link any more.
    if actor.limits().is_some_and(|limits| !limits.subscribers.is_empty()) {
        return Err(Problem::unauthorized("the key of the session is limited to some subscribers now"));
    }
    let scopes = portal.scopes().iter().filter(|scope| actor.scopes().contains(*scope));
    let scopes = scopes.fold(Scopes::NONE, Scopes::with);
    let limits = KeyLimits { subscribers: portal.subscribers.clone(), ..KeyLimits::default() };
    let powers = Powers { tenant: Some(tenant.clone()), scopes, limits, expires_at: None };
    let name = session_name(&grant.session);
    Ok(Actor::Guest(Arc::new(Guest { name, key: actor.name(), powers })))
}

/// The key that a request shows, itself or through a session.
pub(crate) struct Shown {
    /// `None` for the key in the server's environment.
    pub(crate) key: Option<KeyId>,
    /// The hash of its text.
    pub(crate) hash: KeyHash,
}

impl FromRequestParts<ApiState> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        #[cfg(feature = "console")]
        if let Some(grant) = parts.extensions.get::<Grant>() {
            return Ok(Self { key: grant.key, hash: grant.hash });
        }
        let text = parts.headers.get(header::AUTHORIZATION).and_then(|given| bearer(given.as_bytes()));
        let Some(text) = text else { return Err(Problem::internal()) };
        let key = match parts.extensions.get::<Caller>().map(|caller| &caller.actor) {
            Some(Actor::Key(known)) => Some(known.key.id),
            _ => None,
        };
        Ok(Self { key, hash: KeyHash::of(text) })
    }
}

/// Counts the request, if the key has a rate.
///
/// # Errors
/// 403 if the key may not be used from the caller's address, 429 if it makes too many requests.
pub(crate) fn within_limits(
    state: &ApiState,
    actor: &Actor,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Option<Quota>, Problem> {
    let Actor::Key(known) = actor else { return Ok(None) };
    let limits = &known.key.powers.limits;
    if !limits.networks.is_empty()
        && !limits.allow_address(address::of(extensions, headers, &state.config.trusted_proxies))
    {
        return Err(Problem::new(StatusCode::FORBIDDEN, "the key may not be used from this address"));
    }
    let Some(rate) = limits.rate else { return Ok(None) };
    known.meter().take(rate, state.keys.now()).map(Some).map_err(|exceeded| {
        state.counts.limited_keys.increment(1);
        Problem::limited("the key makes more requests than it may; try again later", exceeded)
    })
}

/// Decides for which tenant a request acts, and whether it may.
///
/// # Errors
/// 403 if the key acts for another tenant, lacks a scope or is limited to some subscribers; 422 if the tenant's name is
/// invalid.
pub(crate) fn caller(actor: Actor, needs: Option<Needs>, headers: &HeaderMap) -> Result<Caller, Problem> {
    let named = headers.get(TENANT).map(|tenant| tenant.to_str().unwrap_or_default().parse::<TenantId>());
    let named = named.transpose().map_err(|error| Problem::field("X-Tenant-ID", &error))?;
    let one_tenant = named.is_some() || actor.tenant().is_some();
    let tenant = match (actor.tenant(), named) {
        (Some(own), Some(named)) if *own != named => {
            let detail = "the key acts for another tenant; leave out `X-Tenant-ID`";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        (Some(own), _) => own.clone(),
        (None, named) => named.unwrap_or_default(),
    };
    if let Some(needs) = needs {
        if let Some(scope) = needs.scopes.missing_from(actor.scopes()) {
            return Err(Problem::needs(scope));
        }
        let is_limited = actor.limits().is_some_and(|limits| !limits.subscribers.is_empty());
        if is_limited && !needs.some_subscribers {
            let detail = "the key is limited to some subscribers, which this call is not";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    Ok(Caller { tenant, actor, one_tenant })
}

/// The key of `Bearer <key>`; the scheme's case does not matter (RFC 9110, §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, key) = value.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii())
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
