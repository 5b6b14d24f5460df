//! The form that registers or changes an event type, and filling it in from events.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Problem;
use postrider_api::event_type::{EventTypeView, InferredView, Registered};
use postrider_core::event::SchemaMode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{API, PATH, explained, page_of, read};
use crate::controls::{Control, refused, tick};
use crate::failure::{Failure, problem};
use crate::form::Form;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

/// An event type as the form gives it. The schema and the example stay as they were typed.
#[derive(Serialize)]
struct Request<'a> {
    name: &'a str,
    description: &'a str,
    group: &'a str,
    deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<Box<RawValue>>,
    mode: &'a str,
    force: bool,
}

pub(super) async fn new(visit: Visit) -> Page {
    page(&visit, None, &visit.query, None, None)
}

pub(super) async fn create(visit: Visit, sent: Form) -> Result<Response, Failure> {
    save_as(&visit, None, sent.fields.get("name").unwrap_or_default(), &sent.fields).await
}

pub(super) async fn form(visit: Visit, Path(name): Path<String>) -> Result<Page, Failure> {
    let event_type = read(&visit, &name).await?;
    Ok(page(&visit, Some(&event_type), &present(&event_type), None, None))
}

pub(super) async fn save(visit: Visit, Path(name): Path<String>, sent: Form) -> Result<Response, Failure> {
    let event_type = read(&visit, &name).await?;
    save_as(&visit, Some(&event_type), event_type.name.as_str(), &sent.fields).await
}

/// Fills the form in with a schema that all recent events of the type match. Nothing is saved.
pub(super) async fn infer(visit: Visit, Path(name): Path<String>) -> Result<Page, Failure> {
    let event_type = read(&visit, &name).await?;
    let path = format!("{API}/infer");
    let inferred: InferredView = visit.send(Method::POST, &path, &json!({"name": event_type.name})).await?;
    let mut given = present(&event_type).with("schema", pretty(&inferred.schema));
    if let Some(example) = &inferred.example {
        given = given.with("example", pretty(example));
    }
    let notice = format!(
        "The schema is derived from {}. Check it, and save it.",
        text::counted(inferred.events.into(), "event", "events")
    );
    Ok(page(&visit, Some(&event_type), &given, None, Some(&notice)))
}

async fn save_as(
    visit: &Visit,
    event_type: Option<&EventTypeView>,
    name: &str,
    fields: &Query,
) -> Result<Response, Failure> {
    let text = |name: &str| fields.get(name).unwrap_or_default();
    let saved = async {
        let request = Request {
            name,
            description: text("description"),
            group: text("group"),
            deprecated: fields.get("deprecated").is_some(),
            schema: raw(visit, fields, "schema")?,
            example: raw(visit, fields, "example")?,
            mode: fields.get("mode").unwrap_or(SchemaMode::Off.as_str()),
            force: fields.get("force").is_some(),
        };
        match event_type {
            // The type may be the deployment's, or only seen; this registers it for the tenant.
            Some(_) => visit.act_with(Method::PUT, &format!("{API}/{}", segment(name)), &request).await,
            None => visit.act_with(Method::POST, API, &request).await,
        }
    };
    match saved.await {
        Ok(()) => Ok(visit.go_to(&format!("{PATH}/{}", segment(name)), "saved")),
        Err(failure) if matches!(failure.status(), 400 | 409 | 422) => {
            Ok(page(visit, event_type, fields, Some(failure.problem()), None).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn raw(visit: &Visit, fields: &Query, name: &str) -> Result<Option<Box<RawValue>>, Failure> {
    let Some(text) = fields.get(name) else { return Ok(None) };
    let parsed: Result<Box<RawValue>, _> = serde_json::from_str(text);
    parsed.map(Some).map_err(|error| {
        Failure::new(
            visit,
            problem(StatusCode::UNPROCESSABLE_ENTITY, format!("the {name} is not JSON: {error}")),
        )
    })
}

fn present(event_type: &EventTypeView) -> Query {
    let fields = [
        ("description", Some(event_type.description.clone())),
        ("group", Some(event_type.group.clone())),
        ("deprecated", event_type.deprecated.then(|| "true".to_owned())),
        ("schema", event_type.schema.as_ref().map(pretty)),
        ("example", event_type.example.as_ref().map(pretty)),
        ("mode", Some(event_type.mode.to_string())),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(Query::default(), |query, (name, value)| query.with(name, value))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn page(
    visit: &Visit,
    event_type: Option<&EventTypeView>,
    given: &Query,
    problem: Option<&Problem>,
    notice: Option<&str>,
) -> Page {
    let title = match event_type {
        Some(event_type) if event_type.registered == Registered::Seen => "Register an event type",
        Some(_) => "Edit an event type",
        None => "New event type",
    };
    let (action, back) = match event_type {
        Some(event_type) => (format!("{}/edit", page_of(event_type)), page_of(event_type)),
        None => (format!("{PATH}/new"), PATH.to_owned()),
    };
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Event types")]))
        (parts::head(&html! { (title) }, &html! {}))
        @if let Some(notice) = notice { p.notice role="status" { (notice) } }
        (refused(problem))
        form.stack method="post" action=(visit.link(&action)) {
            (about(event_type, given))
            (contents(given))
            div.row { button.primary { "Save" } a.button.plain href=(visit.link(&back)) { "Back" } }
        }
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, title, Section::EventTypes, main)
}

fn about(event_type: Option<&EventTypeView>, given: &Query) -> Markup {
    let line = |name, label, hint| {
        Control { name, label, value: given.get(name).unwrap_or_default(), hint, required: name == "name" }
            .line()
    };
    html! {
        fieldset.panel {
            legend { "Event type" }
            @if let Some(event_type) = event_type { p { strong { (event_type.name) } } }
            @else { (line("name", "Name", "Such as order.created.")) }
            (line("description", "Description", "For people who subscribe to it."))
            (line("group", "Group", "What it is listed under, such as orders."))
            (tick("deprecated", "Publishers should no longer use it", given.get("deprecated").is_some()))
        }
    }
}

fn contents(given: &Query) -> Markup {
    let value = |name| given.get(name).unwrap_or_default();
    let schema = Control {
        name: "schema",
        label: "JSON Schema",
        value: value("schema"),
        hint: "2020-12, or draft 7 if $schema says so; up to 64 KiB.",
        ..Control::default()
    };
    let example = Control {
        name: "example",
        label: "Example",
        value: value("example"),
        hint: "It must match the schema.",
        ..Control::default()
    };
    let mode = Control {
        name: "mode",
        label: "Events that do not match the schema",
        value: given.get("mode").unwrap_or(SchemaMode::Off.as_str()),
        ..Control::default()
    };
    html! {
        fieldset.panel {
            legend { "Data" }
            (schema.area(14))
            (example.area(8))
            (mode.choice(SchemaMode::ALL.iter().map(|mode| (mode.as_str(), explained(*mode)))))
            (tick("force", "Replace a schema with which this one is not compatible", given.get("force").is_some()))
        }
    }
}
