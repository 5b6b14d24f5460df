//! The secret of a subscriber: shown on demand, and rotated.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Problem;
use postrider_api::secret::{RotateRequest, SecretsView};
use postrider_api::subscriber::SubscriberView;
use zeroize::Zeroizing;

use super::{API, PATH, page_of, read};
use crate::controls::{Control, refused};
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::visit::{Page, Visit};

/// Shows the secret. The API writes that into the audit trail, so it takes a POST.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let subscriber = read(&visit, &id).await?;
    let path = format!("{API}/{}/secret", subscriber.id);
    let secrets: SecretsView = visit.get(&path, &Query::default()).await?;
    Ok(shown(&visit, &subscriber, "Secret", &secrets))
}

/// The form that asks how to rotate.
pub(super) async fn ask(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let subscriber = read(&visit, &id).await?;
    Ok(form(&visit, &subscriber, &Query::default(), None))
}

pub(super) async fn rotate(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let subscriber = read(&visit, &id).await?;
    let request = RotateRequest {
        secret: sent.fields.get("secret").map(|secret| Zeroizing::new(secret.to_owned())),
        overlap_seconds: sent.fields.get("overlap_seconds").and_then(|seconds| seconds.parse().ok()),
    };
    let path = format!("{API}/{}/secret/rotate", subscriber.id);
    match visit.send::<SecretsView>(Method::POST, &path, &request).await {
        Ok(secrets) => Ok(shown(&visit, &subscriber, "New secret", &secrets).into_response()),
        Err(failure) if failure.status() == 422 => {
            Ok(form(&visit, &subscriber, &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn form(visit: &Visit, subscriber: &SubscriberView, given: &Query, problem: Option<&Problem>) -> Page {
    /// The overlaps that are offered, in seconds.
    const OVERLAPS: [(&str, &str); 5] = [
        ("86400", "one day"),
        ("3600", "one hour"),
        ("604800", "seven days"),
        ("600", "ten minutes"),
        ("0", "none"),
    ];
    let page = page_of(subscriber);
    let secret = Control {
        name: "secret",
        label: "New secret",
        hint: "8 to 256 characters, or a whsec_ or whsk_ key. Leave it empty and one is generated.",
        ..Control::default()
    };
    let overlap = Control {
        name: "overlap_seconds",
        label: "The present secret also signs for",
        value: given.get("overlap_seconds").unwrap_or("86400"),
        hint: "Receivers that know either secret accept deliveries during this time. With none, no earlier secret signs any more.",
        ..Control::default()
    };
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Subscribers"), (&page, &parts::short(&subscriber.id.to_string()))]))
        (parts::head(&html! { "Rotate the secret" }, &html! {}))
        p.lead { (subscriber.url) }
        (refused(problem))
        form.stack.panel method="post" action=(visit.link(&format!("{page}/rotate"))) {
            (secret.line())
            (overlap.choice(OVERLAPS.into_iter()))
            div.row { button.danger { "Rotate" } a.button.plain href=(visit.link(&page)) { "Back" } }
        }
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, "Rotate a secret", Section::Subscribers, main)
}

fn shown(visit: &Visit, subscriber: &SubscriberView, title: &str, secrets: &SecretsView) -> Page {
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Subscribers"), (&page_of(subscriber), &parts::short(&subscriber.id.to_string()))]))
        (parts::head(&html! { (title) }, &html! {}))
        p.lead { (subscriber.url) }
        div.panel {
            (parts::copied(&secrets.secret.secret))
            @if let Some(key) = &secrets.secret.public_key { p { "Receivers verify with " (parts::copied(key)) } }
            p.quiet { "This is in the audit trail. Reloading the page asks for the secret again." }
        }
        (previous(visit, secrets))
        p { a.button.plain href=(visit.link(&page_of(subscriber))) { "Back to the subscriber" } }
    };
    visit.page(title, Section::Subscribers, main)
}

fn previous(visit: &Visit, secrets: &SecretsView) -> Markup {
    html! {
        @if !secrets.previous.is_empty() {
            section {
                h2 { "Earlier secrets that still sign" }
                ul {
                    @for secret in &secrets.previous {
                        li { (parts::copied(&secret.secret.secret)) " until " (parts::at(secret.expires_at, visit.now)) }
                    }
                }
            }
        }
    }
}
