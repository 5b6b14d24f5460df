//! One request of somebody who is signed in.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use postrider_core::key::Scope;
use postrider_core::portal::Portal;
use postrider_core::{TenantId, Timestamp};

use crate::api::{Api, Session, Token};
use crate::layout::{self, Frame, Section};
use crate::links::{Base, ROOT, below};
use crate::query::Query;

/// What all pages share.
pub(crate) type Console = Arc<dyn Api>;

/// One request of somebody who is signed in. As an argument of a handler it sends everybody else to the sign-in form.
#[derive(Clone)]
pub(crate) struct Visit(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) api: Console,
    pub(crate) parts: Parts,
    pub(crate) session: Session,
    /// The tenant that an operator has chosen with the parameter `tenant`.
    pub(crate) chosen: Option<TenantId>,
    /// All parameters except `tenant` and `notice`.
    pub(crate) query: Query,
    pub(crate) now: Timestamp,
    base: Base,
    notice: Option<String>,
}

impl std::ops::Deref for Visit {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Visit {
    /// Returns a link to a path below the root of the console, such as `events/evt_…?limit=10`. It keeps the chosen tenant.
    pub(crate) fn link(&self, path: &str) -> String {
        let mut link = self.base.to(path);
        if let Some(tenant) = &self.chosen {
            link.push(if path.contains('?') { '&' } else { '?' });
            link.push_str("tenant=");
            link.push_str(tenant.as_str());
        }
        link
    }

    /// Returns a link with a query string.
    pub(crate) fn link_with(&self, path: &str, query: &Query) -> String {
        self.link(&query.after(path))
    }

    /// Returns the path of this page below the root, without its query string.
    pub(crate) fn path(&self) -> &str {
        below(self.parts.uri.path()).0
    }

    /// Returns whether the session has a scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.session.may(scope)
    }

    /// Makes a page of its contents.
    pub(crate) fn page(&self, title: &str, section: Section, main: Markup) -> Page {
        self.page_with(StatusCode::OK, title, section, main)
    }

    #[allow(clippy::needless_pass_by_value, reason = "a screen has just made it")]
    pub(crate) fn page_with(&self, status: StatusCode, title: &str, section: Section, main: Markup) -> Page {
        let frame = Frame {
            base: self.base,
            title,
            section,
            session: Some(&self.session),
            chosen: self.chosen.as_ref(),
            search: self.query.get("q").filter(|_| self.path() == "search"),
            notice: self.notice.as_deref(),
        };
        Page { status, html: layout::page(&frame, &main).into_string(), portal: self.session.portal.clone() }
    }

    /// Sends the browser to another page. `notice` is shown there, see `layout::notice`.
    pub(crate) fn go_to(&self, path: &str, notice: &str) -> Response {
        let mut link = self.link(path);
        if !notice.is_empty() {
            link.push(if link.contains('?') { '&' } else { '?' });
            link.push_str("notice=");
            link.push_str(notice);
        }
        see_other(&link)
    }

    /// Sends the browser to the sign-in form, and afterwards back here.
    pub(crate) fn sign_in(&self) -> Response {
        sign_in(&self.parts)
    }
}

/// A page.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) html: String,
    /// What session of the portal it belongs to.
    pub(crate) portal: Option<Arc<Portal>>,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::response::Html(self.html)).into_response();
        if let Some(portal) = self.portal.filter(|portal| !portal.frame_ancestors.is_empty()) {
            response.extensions_mut().insert(Framed(portal));
        }
        response
    }
}

/// Marks a page that others may frame.
#[derive(Clone)]
pub(crate) struct Framed(pub(crate) Arc<Portal>);

/// Answers with a redirect, which the browser follows with a GET.
pub(crate) fn see_other(link: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, link.to_owned())]).into_response()
}

impl FromRequestParts<Console> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Console) -> Result<Self, Response> {
        let Some(token) = token(parts) else { return Err(sign_in(parts)) };
        let (_, in_portal) = below(parts.uri.path());
        let session = match api.session(parts, &token).await {
            Ok(Some(session)) if session.portal.is_some() == in_portal => session,
            Ok(_) => return Err(sign_in(parts)),
            Err(problem) => {
                let status =
                    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Err((status, format!("{}\n", problem.detail)).into_response());
            }
        };
        let given = Query::read(parts.uri.query().unwrap_or_default().as_bytes());
        let chosen =
            given.get("tenant").filter(|_| session.is_operator()).and_then(|tenant| tenant.parse().ok());
        let inner = Inner {
            api: Arc::clone(api),
            base: Base::of(parts.uri.path()),
            parts: parts.clone(),
            session,
            chosen,
            query: given.without("tenant").without("notice"),
            now: api.now(),
            notice: given.get("notice").map(str::to_owned),
        };
        Ok(Self(Arc::new(inner)))
    }
}

/// The names of the cookie: over https, where only this host can set it, and over http.
pub(crate) const COOKIES: [&str; 2] = ["__Host-postrider", "postrider"];

/// The names of the portal's cookie.
pub(crate) const PORTAL_COOKIES: [&str; 2] = ["__Host-postrider-portal", "postrider-portal"];

/// Returns the token that the browser sends.
pub(crate) fn token(parts: &Parts) -> Option<Token> {
    let pairs = || {
        let lines = parts.headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
    };
    let names = if below(parts.uri.path()).1 { PORTAL_COOKIES } else { COOKIES };
    names.iter().find_map(|name| pairs().find(|(given, _)| given == name)?.1.parse().ok())
}

/// Sends the browser to the sign-in form, and afterwards back to the page that it wanted.
fn sign_in(parts: &Parts) -> Response {
    if parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty") {
        return (StatusCode::UNAUTHORIZED, "sign in first\n").into_response();
    }
    let path = parts.uri.path();
    if below(path).1 {
        return ended(parts).into_response();
    }
    let base = Base::of(path);
    let cross_site = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if cross_site && token(parts).is_none() && parts.method == http::Method::GET {
        // A link on another site led here, and browsers then keep the cookie to themselves. This page asks again.
        return axum::response::Html(layout::again(base).into_string()).into_response();
    }
    let wanted = path.strip_prefix(ROOT).unwrap_or_default().trim_start_matches('/');
    let wanted = parts.uri.query().map_or_else(|| wanted.to_owned(), |query| format!("{wanted}?{query}"));
    let wanted = if parts.method == http::Method::GET && !wanted.is_empty() {
        Query::default().with("next", wanted)
    } else {
        Query::default()
    };
    see_other(&base.to(&wanted.after("login")))
}

/// What somebody sees in the portal who has no session, or no longer one.
pub(crate) fn ended(parts: &Parts) -> Page {
    let base = Base::of(parts.uri.path());
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            (layout::head_with(base, "Session ended", false))
            body.bare {
                main id="main" tabindex="-1" {
                    div.sign-in {
                        h1 { "This session has ended" }
                        p { "Go back to the application that led you here, and open its webhook settings again." }
                    }
                }
            }
        }
    };
    Page { status: StatusCode::UNAUTHORIZED, html: html.into_string(), portal: None }
}
