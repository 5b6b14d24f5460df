//! The form that creates or changes a subscriber.

mod request;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Problem;
use postrider_api::subscriber::{CreatedSubscriberView, SubscriberView};
use postrider_core::format::FormatName;

use super::{API, PATH, page_of, read};
use crate::controls::{Control, refused, tick};
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::visit::{Page, Visit};
use request::{changed, created, forget, present};

pub(super) async fn new(visit: Visit) -> Page {
    // Links may fill the form in.
    page(&visit, None, &visit.query, None)
}

pub(super) async fn create(visit: Visit, sent: Form) -> Result<Response, Failure> {
    let request = match created(&visit, &sent.fields) {
        Ok(request) => request,
        Err(failure) => return Ok(page(&visit, None, &sent.fields, Some(failure.problem())).into_response()),
    };
    match visit.send::<CreatedSubscriberView>(Method::POST, API, &request).await {
        Ok(created) => Ok(visit.go_to(&page_of(&created.subscriber), "created")),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, None, &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let subscriber = read(&visit, &id).await?;
    let given = present(&subscriber);
    Ok(page(&visit, Some(&subscriber), &given, None))
}

pub(super) async fn save(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let subscriber = read(&visit, &id).await?;
    let mut request = match changed(&visit, &sent.fields) {
        Ok(request) => request,
        Err(failure) => {
            return Ok(page(&visit, Some(&subscriber), &sent.fields, Some(failure.problem())).into_response());
        }
    };
    forget(&mut request, &subscriber);
    match visit.act_with(Method::PATCH, &format!("{API}/{}", subscriber.id), &request).await {
        Ok(()) => Ok(visit.go_to(&page_of(&subscriber), "saved")),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, Some(&subscriber), &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn is_about_the_form(failure: &Failure) -> bool {
    matches!(failure.status(), 400 | 409 | 422)
}

fn page(
    visit: &Visit,
    subscriber: Option<&SubscriberView>,
    given: &Query,
    problem: Option<&Problem>,
) -> Page {
    let title = if subscriber.is_some() { "Edit a subscriber" } else { "New subscriber" };
    let (action, back) = match subscriber {
        Some(subscriber) => (format!("{}/edit", page_of(subscriber)), page_of(subscriber)),
        None => (format!("{PATH}/new"), PATH.to_owned()),
    };
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Subscribers")]))
        (parts::head(&html! { (title) }, &html! {}))
        (refused(problem))
        form.stack method="post" action=(visit.link(&action)) {
            fieldset.panel { legend { "Endpoint" } (endpoint(subscriber.is_some(), given)) }
            fieldset.panel { legend { "What it gets" } (matching(given)) }
            fieldset.panel {
                legend { "How it is delivered" }
                p.hint { "Empty fields follow the deployment’s settings." }
                div.pair { (policy(given)) }
            }
            fieldset.panel { legend { "Owner and notes" } (owner(given)) }
            div.row {
                button.primary { (if subscriber.is_some() { "Save" } else { "Create" }) }
                a.button.plain href=(visit.link(&back)) { "Back" }
            }
        }
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, title, Section::Subscribers, main)
}

/// A field of one line.
fn line(given: &Query, name: &str, label: &str, hint: &str) -> Markup {
    Control { name, label, value: given.get(name).unwrap_or_default(), hint, required: false }.line()
}

/// A field of several lines.
fn area(given: &Query, name: &str, label: &str, hint: &str, rows: usize) -> Markup {
    Control { name, label, value: given.get(name).unwrap_or_default(), hint, required: false }.area(rows)
}

fn endpoint(exists: bool, given: &Query) -> Markup {
    let url = Control {
        name: "url",
        label: "URL",
        value: given.get("url").unwrap_or_default(),
        hint: "https or http, at an address that the server allows.",
        required: true,
    };
    html! {
        (url.line())
        @if exists {
            (line(given, "secret", "Secret", "Only if the URL moves to another host: the present secret, or a new one."))
            (tick("keep_secrets", "The secret and the headers may go to another host", given.get("keep_secrets").is_some()))
        } @else {
            (line(given, "secret", "Secret", "8 to 256 characters, or a whsec_ or whsk_ key. Empty: one is generated."))
        }
        (area(given, "headers", "Headers to add", "One a line, such as authorization: Bearer 1234. Their values are never shown again; those not named here stay.", 2))
    }
}

fn matching(given: &Query) -> Markup {
    let events = Control {
        name: "events",
        label: "Event types",
        value: given.get("events").unwrap_or_default(),
        hint: "One a line: event types, prefixes such as order.*, or * for all.",
        required: true,
    };
    let format = Control {
        name: "format",
        label: "Format of the body",
        value: given.get("format").unwrap_or("postrider"),
        ..Control::default()
    };
    html! {
        (events.area(3))
        (line(given, "channels", "Channels", "Separated by commas. With channels, only events that share one are received."))
        (area(given, "filter", "Filter", "A CEL expression over event and data, such as data.total > 100.", 2))
        (format.choice(FormatName::ALL.iter().map(|format| (format.as_str(), format.as_str()))))
        (line(given, "template", "Template", "For the format slack, such as {{event}}: {{data.total}}."))
        (area(given, "transform", "Transform", r#"JSON, such as {"steps": [{"op": "mask", "path": "/card/number", "keep": 4}]}."#, 4))
    }
}

fn policy(given: &Query) -> Markup {
    html! {
        (line(given, "max_attempts", "Attempts", ""))
        (line(given, "schedule", "Delays between attempts", "Such as 10s, 1m, 1h. The last one repeats."))
        (line(given, "timeout", "Timeout of an attempt", "Such as 10s."))
        (line(given, "concurrency", "Requests at once", ""))
        (line(given, "per_second", "Requests per second", ""))
        (line(given, "burst", "Burst", "Requests that may start at once after an idle period."))
        (tick("ordered", "Deliver in order, one at a time", given.get("ordered").is_some()))
    }
}

fn owner(given: &Query) -> Markup {
    html! {
        (line(given, "description", "Description", ""))
        (line(given, "uid", "uid", "A name of your choice, accepted wherever the id is."))
        (area(given, "metadata", "Metadata", "One a line, such as team: billing.", 2))
        (line(given, "notify_url", "Notices to a URL", "The owner hears there that deliveries fail."))
        (line(given, "notify_email", "Notices by mail", ""))
    }
}
