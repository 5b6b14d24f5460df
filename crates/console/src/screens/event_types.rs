//! Event types: registered and seen ones, one with its schema, and deriving a schema from events.

mod edit;

use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use maud::{Markup, html};
use postrider_api::event_type::{EventTypeList, EventTypeView, Registered};
use postrider_core::event::SchemaMode;
use postrider_core::key::Scope;

use super::Screen;
use crate::failure::Failure;
use crate::json;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "event-types";
const API: &str = "/v1/event-types";

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/event-types", get(list))
        .route("/console/event-types/new", get(edit::new).post(edit::create))
        .route("/console/event-types/{name}", get(show))
        .route("/console/event-types/{name}/edit", get(edit::form).post(edit::save))
        .route("/console/event-types/{name}/infer", post(edit::infer))
        .route("/console/event-types/{name}/delete", get(ask_delete).post(delete))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: EventTypeList = visit.get(API, &visit.query).await?;
    let columns = [
        ("Event type", ""),
        ("Description", "wide"),
        ("Registered", ""),
        ("Schema", ""),
        ("Deliveries, 30 d", "num"),
    ];
    let rows = page.data.iter().map(|event_type| Row {
        id: Some(event_type.name.to_string()),
        cells: vec![
            html! {
                a href=(visit.link(&page_of(event_type))) { (event_type.name) }
                @if event_type.deprecated { " " (parts::badge("–", "off", "deprecated")) }
            },
            html! {
                (event_type.description)
                @if !event_type.group.is_empty() { @if !event_type.description.is_empty() { br; } small { (event_type.group) } }
            },
            registered(event_type.registered),
            mode(event_type),
            volume(event_type),
        ],
    });
    let main = html! {
        (parts::head(&html! { "Event types" }, &html! {
            @if visit.may(Scope::TypesWrite) { a.button.primary href=(visit.link("event-types/new")) { "New event type" } }
        }))
        p.lead {
            @if visit.session.is_operator() && visit.chosen.is_none() {
                "The types that the operator has registered for all tenants. Choose a tenant to see its own, and those that it uses."
            } @else { "Registered types, and those that occurred in events of the last 30 days." }
        }
        @if page.data.is_empty() {
            (parts::empty(
                "No event type yet",
                "A type appears with its first event, registered or not. Send one:",
                Some(
                    "curl -s \"$POSTRIDER_URL/v1/events\" -H \"Authorization: Bearer $POSTRIDER_KEY\" \\\n  \
                     -H 'Content-Type: application/json' -d '{\"event\": \"order.created\", \"data\": {\"order\": 1}}'",
                ),
            ))
        } @else {
            (table("Event types", &columns, rows))
            (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Event types", Section::EventTypes, main))
}

async fn show(visit: Visit, Path(name): Path<String>) -> Result<Page, Failure> {
    let event_type = read(&visit, &name).await?;
    let name = event_type.name.as_str();
    let page = page_of(&event_type);
    let is_registered = event_type.registered != Registered::Seen;
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Event types")]))
        (parts::head(&html! { (name) }, &html! {
            @if visit.may(Scope::TypesWrite) {
                a.button href=(visit.link(&format!("{page}/edit"))) { (if is_registered { "Edit" } else { "Register" }) }
                (parts::action(&visit, &format!("{page}/infer"), "Infer the schema from events", None))
                @if is_registered { a.button.plain href=(visit.link(&format!("{page}/delete"))) data-key="x" { "Delete…" } }
            }
        }))
        @if !event_type.description.is_empty() { p.lead { (event_type.description) } }
        div.panel { (parts::facts(&[
            ("Registered", html! { (registered(event_type.registered)) @if event_type.deprecated { " " (parts::badge("–", "off", "deprecated")) } }),
            ("Group", html! { @if event_type.group.is_empty() { (parts::none()) } @else { (event_type.group) } }),
            ("Events that do not match", html! { (explained(event_type.mode)) }),
            ("Deliveries in 30 days", volume(&event_type)),
            ("Created", moment(&visit, event_type.created_at)),
            ("Changed", moment(&visit, event_type.updated_at)),
        ])) }
        p.under {
            a href=(visit.link(&format!("events?event={}", segment(name)))) { "Events" } " · "
            a href=(visit.link(&format!("deliveries?event={}", segment(name)))) { "Deliveries" } " · "
            a href=(visit.link(&format!("subscribers?event={}", segment(name)))) { "Subscribers" }
        }
        div.columns {
            section.panel { h2 { "Schema" } (value(event_type.schema.as_ref(), "No schema: any data is taken.")) }
            section.panel { h2 { "Example" } (value(event_type.example.as_ref(), "No example.")) }
        }
    };
    Ok(visit.page(name, Section::EventTypes, main))
}

async fn ask_delete(visit: Visit, Path(name): Path<String>) -> Result<Page, Failure> {
    let event_type = read(&visit, &name).await?;
    let page = page_of(&event_type);
    let what = html! {
        p { strong { (event_type.name) } }
        p { "Its description, schema and example are deleted. Events of the type stay, and are taken as before unless the tenant allows only registered types." }
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Event types"), (&page, event_type.name.as_str())]))
        (parts::head(&html! { "Delete this event type?" }, &html! {}))
        (parts::confirm(&visit, &what, &format!("{page}/delete"), &Query::default(), "Delete the event type", &page))
    };
    Ok(visit.page("Delete an event type", Section::EventTypes, main))
}

async fn delete(visit: Visit, Path(name): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::DELETE, &format!("{API}/{}", segment(&name))).await?;
    Ok(visit.go_to(PATH, "deleted"))
}

async fn read(visit: &Visit, name: &str) -> Result<EventTypeView, Failure> {
    visit.get(&format!("{API}/{}", segment(name)), &Query::default()).await
}

fn page_of(event_type: &EventTypeView) -> String {
    format!("{PATH}/{}", segment(event_type.name.as_str()))
}

fn registered(registered: Registered) -> Markup {
    match registered {
        Registered::Tenant => parts::badge("✓", "good", "by the tenant"),
        Registered::Deployment => parts::badge("✓", "good", "by the operator"),
        Registered::Seen => parts::badge("◔", "wait", "seen only"),
    }
}

fn mode(event_type: &EventTypeView) -> Markup {
    html! { @if event_type.schema.is_none() { (parts::none()) } @else { (event_type.mode) } }
}

fn explained(mode: SchemaMode) -> &'static str {
    match mode {
        SchemaMode::Off => "are not noticed (off)",
        SchemaMode::Warn => "are delivered and counted (warn)",
        SchemaMode::Enforce => "are refused (enforce)",
    }
}

fn volume(event_type: &EventTypeView) -> Markup {
    html! { @if let Some(deliveries) = event_type.deliveries { (text::count(deliveries)) } @else { (parts::none()) } }
}

fn moment(visit: &Visit, at: Option<postrider_api::Moment>) -> Markup {
    html! { @if let Some(at) = at { (parts::at(at, visit.now)) } @else { (parts::none()) } }
}

fn value(value: Option<&serde_json::Value>, none: &str) -> Markup {
    html! { @if let Some(value) = value { (json::shown(&value.to_string())) } @else { p.quiet { (none) } } }
}
