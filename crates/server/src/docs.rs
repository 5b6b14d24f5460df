//! `/docs`: the OpenAPI description for people, on one page that loads nothing from other sites.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");

#[derive(Clone)]
struct Page {
    html: Html<String>,
    policy: HeaderValue,
}

pub(crate) fn routes() -> Router {
    let html = Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Postrider API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main id=\"api\"><p>Loading openapi.json …</p></main><script>{SCRIPT}</script></body></html>\n"
    ));
    let policy = format!(
        "default-src 'none'; connect-src 'self'; script-src '{}'; style-src '{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    // The policy is visible ASCII, so the fallback is never used.
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    Router::new().route("/docs", get(page)).with_state(Page { html, policy })
}

async fn page(State(page): State<Page>) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, page.policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, page.html).into_response()
}

/// A content security policy source that allows exactly this text.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}
