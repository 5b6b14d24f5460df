//! Signing in with a key, and out.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use maud::html;
use postrider_api::Problem;
use zeroize::Zeroizing;

use super::Screen;
use crate::api::SignedIn;
use crate::form::Form;
use crate::guard::is_https;
use crate::layout::{self, Frame, Section};
use crate::links::{Base, safe};
use crate::query::Query;
use crate::visit::{COOKIES, Console, Page, Visit, see_other};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/login", get(form).post(sign_in)).route("/console/logout", post(sign_out))
}

async fn form(parts: Parts) -> Page {
    let query = Query::read(parts.uri.query().unwrap_or_default().as_bytes());
    page(StatusCode::OK, &parts, query.get("next"), None)
}

async fn sign_in(State(api): State<Console>, Form { parts, fields }: Form) -> Response {
    let key = Zeroizing::new(fields.get("key").unwrap_or_default().to_owned());
    let next = fields.get("next").and_then(safe);
    match api.sign_in(&parts, &key).await {
        Ok(signed_in) => {
            let mut response = see_other(&Base::of(parts.uri.path()).to(next.unwrap_or_default()));
            let cookie = cookie(&parts, &signed_in, signed_in.expires_at.since(api.now()).as_secs());
            cookie.map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
            response
        }
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            page(status, &parts, next, Some(&problem)).into_response()
        }
    }
}

async fn sign_out(visit: Visit) -> Response {
    // A session that is gone already is what was wanted.
    if let Err(problem) = visit.api.revoke(&visit.parts, &visit.session, visit.session.id).await {
        return crate::failure::Failure::new(&visit, problem).into_response();
    }
    let mut response = see_other(&Base::of(visit.parts.uri.path()).to("login"));
    for (name, secure) in COOKIES.into_iter().zip(["; Secure", ""]) {
        let gone = format!("{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict{secure}");
        if let Ok(gone) = HeaderValue::try_from(gone) {
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
    }
    response
}

/// The cookie of a new session. Its path is `/`, because the console does not know the prefix that a proxy removes, and
/// because a name with `__Host-` requires it.
fn cookie(parts: &Parts, signed_in: &SignedIn, seconds: u64) -> Option<HeaderValue> {
    let [secure, plain] = COOKIES;
    let (name, ending) = if is_https(&parts.headers) { (secure, "; Secure") } else { (plain, "") };
    let token = signed_in.token.text();
    let text = format!("{name}={}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{ending}", *token);
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn page(status: StatusCode, parts: &Parts, next: Option<&str>, problem: Option<&Problem>) -> Page {
    let base = Base::of(parts.uri.path());
    let main = html! {
        div.sign-in {
            h1 { "Sign in to Postrider" }
            @if let Some(problem) = problem { p.error role="alert" { (problem.detail) } }
            form method="post" action=(base.to("login")) {
                label for="key" { "API key" }
                input id="key" name="key" type="password" required autofocus maxlength="500" autocomplete="current-password"
                    spellcheck="false" aria-describedby="about-key";
                @if let Some(next) = next.and_then(safe) { input type="hidden" name="next" value=(next); }
                button { "Sign in" }
            }
            p.quiet id="about-key" {
                "The key becomes a session of 12 hours, with the key’s scopes. You can end it at any time."
            }
        }
    };
    let frame = Frame {
        base,
        title: "Sign in",
        section: Section::None,
        session: None,
        chosen: None,
        search: None,
        notice: None,
    };
    Page { status, html: layout::page(&frame, &main).into_string() }
}
