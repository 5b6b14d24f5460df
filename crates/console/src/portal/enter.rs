//! Using a link, and leaving.
//!
//! The secret is in the link's fragment, which browsers do not send: it is in no log and no `Referer`. The script sends it
//! with a form, and without the script somebody pastes the link.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, html};
use postrider_core::portal::Portal;

use crate::api::SignedIn;
use crate::failure::Failure;
use crate::form::Form;
use crate::guard::is_https;
use crate::layout::head_with;
use crate::links::Base;
use crate::query::Query;
use crate::visit::{Console, PORTAL_COOKIES, Page, Visit, ended, see_other};

pub(super) fn routes(router: Router<Console>) -> Router<Console> {
    router
        .route("/portal", get(door))
        .route("/portal/", get(home))
        .route("/portal/enter", post(enter))
        .route("/portal/logout", post(leave))
}

async fn home(visit: Visit) -> Response {
    see_other(&visit.link("endpoints"))
}

/// The page to which a link leads.
async fn door(State(api): State<Console>, parts: Parts) -> Response {
    let query = Query::read(parts.uri.query().unwrap_or_default().as_bytes());
    let portal = match query.get("link").and_then(|link| link.parse().ok()) {
        // If it cannot be read now, the page is only not framed.
        Some(link) => api.portal(link).await.ok().flatten(),
        None => None,
    };
    page(&parts, StatusCode::OK, portal, false).into_response()
}

fn page(parts: &Parts, status: StatusCode, portal: Option<Arc<Portal>>, failed: bool) -> Page {
    let base = Base::of(parts.uri.path());
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            (head_with(base, "Webhooks", false))
            body.bare {
                main id="main" tabindex="-1" {
                    div.sign-in {
                        h1 { "Webhooks" }
                        @if failed {
                            p.error role="alert" { "This link was used already or has expired. Go back to the application that led you here, and open its webhook settings again." }
                        }
                        form method="post" action=(base.to("enter")) data-enter[!failed] {
                            label for="link" { "Your link" }
                            input id="link" name="link" type="password" required maxlength="2200" autocomplete="off" spellcheck="false" aria-describedby="about-link";
                            button { "Open" }
                        }
                        p.quiet id="about-link" { "Paste the whole link. It works once." }
                    }
                }
            }
        }
    };
    Page { status, html: html.into_string(), portal }
}

async fn enter(State(api): State<Console>, Form { parts, fields }: Form) -> Response {
    let given = fields.get("link").unwrap_or_default();
    let secret = given.rsplit('#').next().and_then(|secret| secret.parse().ok());
    let Some(secret) = secret else { return page(&parts, StatusCode::FORBIDDEN, None, true).into_response() };
    match api.enter(&parts, &secret).await {
        Ok(Some((signed_in, portal))) => {
            let mut response = see_other(&Base::of(parts.uri.path()).to("endpoints"));
            let seconds = signed_in.expires_at.since(api.now()).as_secs();
            let cookie = cookie(&parts, &signed_in, &portal, seconds);
            cookie.map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
            response
        }
        Ok(None) => page(&parts, StatusCode::FORBIDDEN, None, true).into_response(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, format!("{}\n", problem.detail)).into_response()
        }
    }
}

/// The cookie of a new session. In a frame of another site, browsers keep it only if it is partitioned, for which they demand
/// https.
fn cookie(parts: &Parts, signed_in: &SignedIn, portal: &Portal, seconds: u64) -> Option<HeaderValue> {
    let [secure, plain] = PORTAL_COOKIES;
    let (name, ending) = match (is_https(&parts.headers), portal.frame_ancestors.is_empty()) {
        (true, true) => (secure, "SameSite=Strict; Secure"),
        (true, false) => (secure, "SameSite=None; Secure; Partitioned"),
        (false, _) => (plain, "SameSite=Strict"),
    };
    let token = signed_in.token.text();
    let text = format!("{name}={}; Max-Age={seconds}; Path=/; HttpOnly; {ending}", *token);
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn leave(visit: Visit) -> Response {
    // A session that is gone already is what was wanted.
    if let Err(problem) = visit.api.revoke(&visit.parts, &visit.session, visit.session.id).await {
        return Failure::new(&visit, problem).into_response();
    }
    let mut response = ended(&visit.parts).into_response();
    *response.status_mut() = StatusCode::OK;
    let framed = visit.session.portal.as_ref().is_some_and(|portal| !portal.frame_ancestors.is_empty());
    let [secure, plain] = PORTAL_COOKIES;
    let strict = if framed { "SameSite=None; Secure; Partitioned" } else { "SameSite=Strict; Secure" };
    for (name, ending) in [(secure, strict), (plain, "SameSite=Strict")] {
        let gone = format!("{name}=; Max-Age=0; Path=/; HttpOnly; {ending}");
        if let Ok(gone) = HeaderValue::try_from(gone) {
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
    }
    response
}
