//! Links to the portal, where the owners of subscribers look after them.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_api::Moment;
use postrider_api::portal::{PortalLinkRequest, PortalLinkView};
use postrider_core::key::{KeyLimits, Scope, Scopes};
use postrider_core::policy::Span;
use postrider_core::portal::{self, Origin, Portal, Theme};
use postrider_core::{TargetUrl, TenantId};
use postrider_store::portal::{MAX_LINKS, PortalLink};
use ring::digest::{SHA256, digest};
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::audit::Audited;
use crate::auth::Shown;
use crate::caller::Caller;
use crate::extract::JsonBody;
use crate::needs::Needs;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

/// How long a link works, unless the request says otherwise, and how long it may at most.
const EXPIRES_IN: Duration = Duration::from_mins(5);
const EXPIRES_WITHIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

/// The same for the session that it begins.
const SESSION_TTL: Duration = Duration::from_hours(1);
const SESSION_WITHIN: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(12));

/// The most origins that may frame the portal.
const ORIGINS: usize = 10;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(Needs::scope(Scope::PortalMint), routes!(create_link))
}

/// Make a link to the portal
///
/// The link leads the owner of subscribers to pages where they can add and change them, see their deliveries, retry these, and
/// rotate secrets. It works once and begins a session, which is no stronger than the key of this request and ends with that key.
/// Revoke a session on the console's page of sessions.
#[utoipa::path(
    post, path = "/v1/portal/links", operation_id = "create_portal_link", tag = "portal", request_body = PortalLinkRequest,
    responses(
        (status = 201, description = "The link.", body = PortalLinkView),
        (
            status = 409, description = "The console, to which the portal belongs, is off, or the tenant has too many unused links.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn create_link(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    shown: Shown,
    body: JsonBody,
) -> Result<(StatusCode, Json<PortalLinkView>), Problem> {
    let wanted = wanted(body.parse::<PortalLinkRequest>()?, &caller)?;
    let Wanted { tenant, portal, expires_in, session_ttl } = wanted;
    let is_served = cfg!(feature = "console") && state.config.console;
    let Some(base) = state.config.portal_url.as_deref().filter(|_| is_served) else {
        return Err(Problem::new(StatusCode::CONFLICT, "the console is off, and the portal with it"));
    };
    let mut secret = Zeroizing::new([0; 32]);
    store.ids().random().fill(&mut *secret);
    let id = id_of(&secret);
    let link = PortalLink {
        id,
        tenant,
        key: shown.key,
        key_hash: shown.hash,
        portal,
        session_ttl,
        expires_at: store.ids().clock().now() + expires_in,
    };
    if !store.create_portal_link(&link).await? {
        let detail = format!("the tenant has {MAX_LINKS} links that nobody has used yet");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let view = PortalLinkView {
        url: Zeroizing::new(format!(
            "{}/portal?link={}#{}",
            base.trim_end_matches('/'),
            hex::encode(id),
            &*text(&secret)
        )),
        expires_at: Moment(link.expires_at),
        tenant: link.tenant,
        subscriber_ids: (!link.portal.subscribers.is_empty()).then(|| link.portal.subscribers.clone()),
        scopes: link.portal.scopes,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// The name of a link in its URL: the hash of its secret, under which it is stored.
pub(crate) fn id_of(secret: &[u8; 32]) -> [u8; 32] {
    // SHA-256 has 32 bytes.
    digest(&SHA256, secret).as_ref().try_into().unwrap_or_default()
}

fn text(secret: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(secret))
}

struct Wanted {
    tenant: TenantId,
    portal: Portal,
    expires_in: Duration,
    session_ttl: Duration,
}

/// What a request asks for, or a problem that names every field that is invalid or beyond the caller's powers.
fn wanted(request: PortalLinkRequest, caller: &Caller) -> Result<Wanted, Problem> {
    let PortalLinkRequest {
        tenant,
        subscriber_ids,
        scopes,
        expires_in,
        session_ttl,
        return_url,
        frame_ancestors,
        theme,
    } = request;
    let mut errors = Errors::default();
    let tenant = match tenant {
        Some(text) => errors.check("tenant", text.parse::<TenantId>()),
        None => Some(caller.tenant.clone()),
    };
    let tenant = tenant.and_then(|tenant| {
        if caller.concerns(&tenant) {
            return Some(tenant);
        }
        errors.add("tenant", "is not the tenant for which the request acts");
        None
    });
    let own = caller.actor.scopes();
    let scopes = match scopes {
        Some(words) => scopes_of(&words, own, &mut errors),
        None => portal::SCOPES.iter().filter(|scope| own.contains(*scope)).collect(),
    };
    if scopes.is_empty() {
        errors.add("scopes", "must have at least one scope that the key of this request has, too");
    }
    // Keys that are limited to some subscribers cannot make links, so all of the tenant's are within reach.
    let subscribers = match subscriber_ids {
        Some(ids) if ids.is_empty() => {
            errors.add("subscriber_ids", "must not be empty; omit it to show all subscribers");
            Vec::new()
        }
        Some(ids) => list("subscriber_ids", &ids, KeyLimits::MOST, &mut errors),
        None => Vec::new(),
    };
    let expires_in = lasting("expires_in", expires_in, EXPIRES_IN, EXPIRES_WITHIN, &mut errors);
    let session_ttl = lasting("session_ttl", session_ttl, SESSION_TTL, SESSION_WITHIN, &mut errors);
    let return_url = return_url.and_then(|url| errors.check("return_url", url.parse::<TargetUrl>()));
    let frame_ancestors: Vec<Origin> =
        list("frame_ancestors", &frame_ancestors.unwrap_or_default(), ORIGINS, &mut errors);
    let theme = Theme::try_from(theme.unwrap_or_default());
    let theme = theme.map_err(|error| errors.add(&format!("theme.{}", error.name()), &error)).ok();
    let wanted = (|| {
        let portal = Portal { scopes, subscribers, return_url, frame_ancestors, theme: theme? };
        Some(Wanted { tenant: tenant?, portal, expires_in: expires_in?, session_ttl: session_ttl? })
    })();
    errors.finish(wanted)
}

fn scopes_of(words: &[String], own: Scopes, errors: &mut Errors) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let field = format!("scopes[{place}]");
        let Some(scope) = errors.check(&field, word.parse::<Scope>()) else { continue };
        if !portal::SCOPES.contains(scope) {
            errors.add(&field, &format!("must be one of: {}", portal::SCOPES));
        } else if !own.contains(scope) {
            errors.add(
                &field,
                &format!("`{scope}` is not among the scopes of the key that this request shows"),
            );
        } else if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

fn list<T: FromStr<Err: Display> + PartialEq>(
    field: &str,
    texts: &[String],
    most: usize,
    errors: &mut Errors,
) -> Vec<T> {
    if texts.len() > most {
        errors.add(field, &format!("must have at most {most} entries"));
        return Vec::new();
    }
    let mut list = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        let entry = errors.check(&format!("{field}[{place}]"), text.parse::<T>());
        list.extend(entry.filter(|entry| !list.contains(entry)));
    }
    list
}

fn lasting(
    field: &str,
    given: Option<Span>,
    default: Duration,
    (least, most): (Duration, Duration),
    errors: &mut Errors,
) -> Option<Duration> {
    let span = given.map_or(default, |Span(span)| span);
    if !(least..=most).contains(&span) {
        errors.add(
            field,
            &format!("must be {} to {}", humantime::format_duration(least), humantime::format_duration(most)),
        );
        return None;
    }
    Some(span)
}
