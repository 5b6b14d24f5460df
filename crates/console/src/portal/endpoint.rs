//! One endpoint: how it is doing, its deliveries, and what can be done about them.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use maud::{Markup, html};
use postrider_api::delivery::DeliveryList;
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use postrider_core::{DeliveryStatus, ErrorKind};
use serde_json::json;

use super::{endpoints, events};
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Console, Page, Visit};

pub(super) fn routes(router: Router<Console>) -> Router<Console> {
    router
        .route("/portal/endpoints/{id}", get(show))
        .route("/portal/endpoints/{id}/edit", get(edit).post(save))
        .route("/portal/endpoints/{id}/test", post(test))
        .route("/portal/endpoints/{id}/pause", post(pause))
        .route("/portal/endpoints/{id}/resume", post(resume))
        .route("/portal/endpoints/{id}/activate", post(activate))
        .route("/portal/endpoints/{id}/recover", get(ask_to_recover).post(recover))
}

/// How far back an outage can be recovered, in hours.
const SPANS: [(u32, &str); 5] = [
    (1, "the last hour"),
    (6, "the last 6 hours"),
    (24, "the last day"),
    (168, "the last week"),
    (720, "the last 30 days"),
];

fn path(id: &str) -> String {
    format!("/v1/subscribers/{}", segment(id))
}

async fn read(visit: &Visit, id: &str) -> Result<SubscriberView, Failure> {
    visit.get(&path(id), &Query::default()).await
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let endpoint = read(&visit, &id).await?;
    let filter = visit.query.only(&["status", "event", "cursor"]);
    let query = filter.with("subscriber_id", endpoint.id).with("limit", 25);
    let deliveries: Option<DeliveryList> = visit.get_if_allowed("/v1/deliveries", &query).await?;
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } }
        (parts::head(&html! { span.url { (endpoint.url) } (endpoints::state(&endpoint)) }, &actions(&visit, &endpoint)))
        (trouble(&visit, &endpoint))
        div.panel { (facts(&visit, &endpoint)) }
        @if let Some(deliveries) = &deliveries { (list(&visit, &endpoint, deliveries)) }
    };
    Ok(visit.page(&endpoint.url, Section::None, main))
}

fn actions(visit: &Visit, endpoint: &SubscriberView) -> Markup {
    let at = |what: &str| format!("endpoints/{}/{what}", endpoint.id);
    html! {
        @if visit.may(Scope::EventsWrite) && endpoint.active { (parts::action(visit, &at("test"), "Send a test", None)) }
        @if visit.may(Scope::SubscribersWrite) {
            a.button href=(visit.link(&at("edit"))) { "Change" }
            @if !endpoint.active { (parts::action(visit, &at("activate"), "Switch on", None)) }
            @else if endpoint.paused_at.is_some() { (parts::action(visit, &at("resume"), "Resume", None)) }
            @else { (parts::action(visit, &at("pause"), "Pause", None)) }
        }
        @if visit.may(Scope::DeliveriesRetry) && endpoint.active { a.button href=(visit.link(&at("recover"))) { "Recover an outage" } }
        a.button href=(visit.link(&at("verify"))) { "Secret and code" }
    }
}

/// What is wrong, and what to do about it.
fn trouble(visit: &Visit, endpoint: &SubscriberView) -> Markup {
    let now = visit.now;
    html! {
        @if !endpoint.active {
            p.panel.problem {
                "Nothing is sent to this endpoint since it was switched off"
                @if let Some(at) = endpoint.deactivated_at { " " (parts::ago(at, now)) }
                ". Switch it on again once it works; then recover what it has missed."
            }
        } @else if let Some(since) = endpoint.breaker.failing_since {
            p.panel.problem {
                (text::counted(endpoint.breaker.failures.into(), "attempt", "attempts")) " in a row failed, the first of them " (parts::ago(since, now)) ". "
                @if let Some(until) = endpoint.breaker.open_until { "The next one follows " (parts::ago(until, now)) ". " }
                "Failed deliveries are tried again; open one to see what your endpoint answered."
            }
        } @else if let Some(at) = endpoint.paused_at {
            p.panel { "Paused " (parts::ago(at, now)) ". Deliveries wait until you resume it." }
        }
    }
}

fn facts(visit: &Visit, endpoint: &SubscriberView) -> Markup {
    parts::facts(&[
        ("Event types", html! { @for pattern in &endpoint.events { code { (pattern) } " " } }),
        (
            "Description",
            html! { @if endpoint.description.is_empty() { (parts::none()) } @else { (endpoint.description) } },
        ),
        ("Added", parts::at(endpoint.created_at, visit.now)),
        ("Id", parts::copied(&endpoint.id.to_string())),
    ])
}

fn list(visit: &Visit, endpoint: &SubscriberView, deliveries: &DeliveryList) -> Markup {
    let rows = deliveries.data.iter().map(|delivery| Row {
        id: Some(delivery.id.to_string()),
        cells: vec![
            html! { a href=(visit.link(&format!("deliveries/{}", delivery.id))) { (delivery.event_type) } },
            parts::status(delivery.status),
            parts::code(delivery.response_code, delivery.error_kind.map(ErrorKind::as_str)),
            html! { (delivery.attempts) },
            parts::ago(delivery.created_at, visit.now),
            parts::maybe_ago(delivery.next_attempt_at, visit.now),
        ],
    });
    let columns = [
        ("Event", ""),
        ("Status", ""),
        ("Answer", ""),
        ("Attempts", "num"),
        ("Created", ""),
        ("Next attempt", ""),
    ];
    let page = format!("endpoints/{}", endpoint.id);
    html! {
        h2 { "Deliveries" }
        form.row.filters action=(visit.link(&page)) {
            (parts::choice(visit, "status", "Status", DeliveryStatus::ALL.iter().map(|status| status.as_str())))
            (parts::field(visit, "event", "Event type", "order.*"))
            button { "Filter" }
        }
        @if deliveries.data.is_empty() {
            (parts::empty("No deliveries", "Nothing here yet. Send a test to see one.", None))
        } @else {
            (table("Deliveries, newest first", &columns, rows))
        }
        (parts::pages(visit, &page, deliveries.next_cursor.as_deref()))
    }
}

async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let endpoint = read(&visit, &id).await?;
    let fields = events::fields(&visit, &endpoint.events).await?;
    let back = format!("endpoints/{}", endpoint.id);
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } " / " a.url href=(visit.link(&back)) { (endpoint.url) } }
        (parts::head(&html! { "Change the endpoint" }, &html! {}))
        form.stack.panel method="post" action=(visit.link(&format!("{back}/edit"))) {
            div.field {
                label for="url" { "URL" }
                input id="url" name="url" type="url" required maxlength="2048" value=(endpoint.url) autocomplete="off" aria-describedby="about-url";
                small id="about-url" { "The secret stays the same, also at another host." }
            }
            div.field {
                label for="description" { "Description (optional)" }
                input id="description" name="description" maxlength="1000" value=(endpoint.description) autocomplete="off";
            }
            (fields)
            div.row { button.primary { "Save" } a.button.plain href=(visit.link(&back)) { "Back" } }
        }
    };
    Ok(visit.page("Change the endpoint", Section::None, main))
}

async fn save(visit: Visit, Path(id): Path<String>, form: Form) -> Result<Response, Failure> {
    let change = json!({
        "url": form.fields.get("url").unwrap_or_default(),
        "description": form.fields.get("description"),
        "events": events::chosen(&form.fields),
        "keep_secrets": true,
    });
    visit.act_with(Method::PATCH, &path(&id), &change).await?;
    Ok(visit.go_to(&format!("endpoints/{}", segment(&id)), "saved"))
}

async fn test(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "test", "tested").await
}

async fn pause(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "pause", "paused").await
}

async fn resume(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "resume", "resumed").await
}

async fn activate(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "activate", "on").await
}

async fn act(visit: &Visit, id: &str, what: &str, notice: &str) -> Result<Response, Failure> {
    visit.act(Method::POST, &format!("{}/{what}", path(id))).await?;
    Ok(visit.go_to(&format!("endpoints/{}", segment(id)), notice))
}

async fn ask_to_recover(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let endpoint = read(&visit, &id).await?;
    let back = format!("endpoints/{}", endpoint.id);
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } " / " a.url href=(visit.link(&back)) { (endpoint.url) } }
        (parts::head(&html! { "Recover an outage" }, &html! {}))
        form.stack.panel method="post" action=(visit.link(&format!("{back}/recover"))) {
            p { "Deliveries that were given up are sent again, oldest first, up to 10,000 at once. Your endpoint may get some events twice: compare their " code { "webhook-id" } "." }
            div.field {
                label for="hours" { "Given up during" }
                select id="hours" name="hours" { @for (hours, words) in SPANS { option value=(hours) selected[hours == 24] { (words) } } }
            }
            div.row { button.primary { "Send again" } a.button.plain href=(visit.link(&back)) { "Back" } }
        }
    };
    Ok(visit.page("Recover an outage", Section::None, main))
}

async fn recover(visit: Visit, Path(id): Path<String>, form: Form) -> Result<Response, Failure> {
    let hours = form.fields.get("hours").and_then(|hours| hours.parse().ok());
    let hours = hours.filter(|hours| SPANS.iter().any(|(known, _)| known == hours)).unwrap_or(24_u32);
    let since = visit.now - std::time::Duration::from_secs(u64::from(hours) * 3600);
    let body = json!({ "since": postrider_api::Moment(since) });
    visit.act_with(Method::POST, &format!("{}/recover", path(&id)), &body).await?;
    Ok(visit.go_to(&format!("endpoints/{}", segment(&id)), "requeued"))
}
