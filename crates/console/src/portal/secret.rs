//! The secret of an endpoint, and code that verifies its signatures.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use maud::{Markup, html};
use postrider_api::secret::SecretsView;
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use serde_json::json;

use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::visit::{Console, Page, Visit};

pub(super) fn routes(router: Router<Console>) -> Router<Console> {
    router
        .route("/portal/endpoints/{id}/verify", get(show).post(reveal))
        .route("/portal/endpoints/{id}/rotate", post(rotate))
}

/// A language, and a function in it that verifies a request.
const SAMPLES: [(&str, &str, &str); 3] = [
    ("node", "Node.js", include_str!("samples/verify.mjs")),
    ("python", "Python", include_str!("samples/verify.py")),
    ("go", "Go", include_str!("samples/verify.go")),
];

/// For how long a replaced secret signs beside the new one, in hours.
const OVERLAPS: [(u32, &str); 3] = [(24, "for a day"), (1, "for an hour"), (0, "not at all")];

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    page(&visit, &id, None).await
}

/// A POST, so that no link can make a browser read a secret.
async fn reveal(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let path = format!("/v1/subscribers/{}/secret", segment(&id));
    let secrets: SecretsView = visit.get(&path, &Query::default()).await?;
    page(&visit, &id, Some(&secrets)).await
}

async fn page(visit: &Visit, id: &str, secrets: Option<&SecretsView>) -> Result<Page, Failure> {
    let path = format!("/v1/subscribers/{}", segment(id));
    let endpoint: SubscriberView = visit.get(&path, &Query::default()).await?;
    let back = format!("endpoints/{}", endpoint.id);
    let chosen = visit.query.get("language").unwrap_or("node");
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } " / " a.url href=(visit.link(&back)) { (endpoint.url) } }
        (parts::head(&html! { "Secret and code" }, &html! {}))
        p.lead { "Each request is signed with the endpoint’s secret. Verify the signature before you trust a request." }
        div.panel { h2 { "Secret" } (secret(visit, &back, secrets)) }
        div.panel {
            h2 { "Verify a request" }
            nav.tabs aria-label="Language" {
                @for (language, name, _) in SAMPLES {
                    a href=(visit.link(&format!("{back}/verify?language={language}"))) aria-current=[(language == chosen).then_some("page")] { (name) } " "
                }
            }
            @for (_, _, code) in SAMPLES.iter().filter(|(language, ..)| *language == chosen) {
                div.sample { pre tabindex="0" { (code) } button.copy type="button" data-copy=(code) hidden { "Copy" } }
            }
            p.quiet { "The signature covers the exact bytes of the body: verify them before you parse. Libraries of Standard Webhooks do the same in many languages. Answer with a status of 200 to 299 within the time limit, and do long work afterwards." }
        }
    };
    Ok(visit.page("Secret and code", Section::None, main))
}

fn secret(visit: &Visit, back: &str, secrets: Option<&SecretsView>) -> Markup {
    html! {
        @match secrets {
            Some(secrets) => {
                p { (parts::copied(&secrets.secret.secret)) }
                @if let Some(key) = &secrets.secret.public_key { p { "Public key: " (parts::copied(key)) } }
                @for previous in &secrets.previous { p.quiet { "Until " (parts::at(previous.expires_at, visit.now)) " also: " (parts::copied(&previous.secret.secret)) } }
            }
            None if visit.may(Scope::SecretsRead) => { (parts::action(visit, &format!("{back}/verify"), "Show the secret", None)) }
            None => { p.quiet { "The link that led here does not allow showing the secret." } }
        }
        @if visit.may(Scope::SecretsRotate) {
            details {
                summary { "Replace the secret" }
                form.stack method="post" action=(visit.link(&format!("{back}/rotate"))) {
                    div.field {
                        label for="overlap" { "The present secret signs beside the new one" }
                        select id="overlap" name="overlap" { @for (hours, words) in OVERLAPS { option value=(hours) { (words) } } }
                    }
                    div.row { button.danger { "Replace" } }
                }
            }
        }
    }
}

async fn rotate(visit: Visit, Path(id): Path<String>, form: Form) -> Result<Response, Failure> {
    let hours = form.fields.get("overlap").and_then(|hours| hours.parse().ok());
    let hours = hours.filter(|hours| OVERLAPS.iter().any(|(known, _)| known == hours)).unwrap_or(24_u32);
    let body = json!({ "overlap_seconds": u64::from(hours) * 3600 });
    visit.act_with(Method::POST, &format!("/v1/subscribers/{}/secret/rotate", segment(&id)), &body).await?;
    Ok(visit.go_to(&format!("endpoints/{}/verify", segment(&id)), "rotated"))
}
