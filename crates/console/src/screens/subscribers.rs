//! Subscribers: their list, and one of them.

mod act;
mod edit;
mod fields;
mod secret;
mod show;
mod tryout;

use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_api::List;
use postrider_api::subscriber::{BreakerState, SubscriberView};
use postrider_core::key::Scope;

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "subscribers";
const API: &str = "/v1/subscribers";

/// The filters of the API.
const FILTERS: [&str; 5] = ["event", "active", "failing", "url", "uid"];

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/subscribers", get(list))
        .route("/console/subscribers/new", get(edit::new).post(edit::create))
        .route("/console/subscribers/{id}", get(show::show))
        .route("/console/subscribers/{id}/edit", get(edit::form).post(edit::save))
        .route("/console/subscribers/{id}/pause", post(act::pause))
        .route("/console/subscribers/{id}/resume", post(act::resume))
        .route("/console/subscribers/{id}/activate", post(act::activate))
        .route("/console/subscribers/{id}/deactivate", get(act::ask_deactivate).post(act::deactivate))
        .route("/console/subscribers/{id}/delete", get(act::ask_delete).post(act::delete))
        .route("/console/subscribers/{id}/test", post(act::test))
        .route("/console/subscribers/{id}/secret", post(secret::show))
        .route("/console/subscribers/{id}/rotate", get(secret::ask).post(secret::rotate))
        .route("/console/subscribers/{id}/try", get(tryout::form).post(tryout::run))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: List<SubscriberView> = visit.get(API, &visit.query).await?;
    let columns = [("State", ""), ("Subscriber", "most"), ("Event types", "some"), ("Changed", "")];
    let rows = page.data.iter().map(|subscriber| Row {
        id: Some(subscriber.id.to_string()),
        cells: vec![
            html! {
                (state(subscriber))
                @if let Some(reason) = subscriber.deactivation_reason { br; small { (text::words(reason.as_str())) } }
                @else if let Some(since) = subscriber.breaker.failing_since { br; small { "since " (parts::ago(since, visit.now)) } }
            },
            html! {
                a.clamp href=(visit.link(&format!("{PATH}/{}", subscriber.id))) title=(subscriber.url) { (subscriber.url) }
                @if let Some(uid) = &subscriber.uid { small { (uid) } }
                @else if !subscriber.description.is_empty() { small.clamp { (subscriber.description) } }
            },
            patterns(&subscriber.events),
            parts::ago(subscriber.updated_at, visit.now),
        ],
    });
    let main = html! {
        (parts::head(&html! { "Subscribers" }, &html! {
            @if visit.may(Scope::SubscribersWrite) { a.button.primary href=(visit.link("subscribers/new")) { "New subscriber" } }
        }))
        (filters(&visit))
        @if page.data.is_empty() && visit.query.get("cursor").is_none() { (empty(&visit)) }
        @else {
            (table("Subscribers", &columns, rows))
            (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Subscribers", Section::Subscribers, main))
}

fn filters(visit: &Visit) -> Markup {
    html! {
        form.filters method="get" role="search" aria-label="Filter" {
            (parts::field(visit, "url", "URL contains", "example.com"))
            (parts::field(visit, "event", "Receives event type", "order.created"))
            (parts::field(visit, "uid", "uid", "billing-eu"))
            (yes_or_no(visit, "active", "Active"))
            (yes_or_no(visit, "failing", "Failing"))
            (parts::hidden(visit, &Query::default()))
            button.primary { "Filter" }
        }
    }
}

fn yes_or_no(visit: &Visit, name: &str, label: &str) -> Markup {
    let chosen = visit.query.get(name);
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (word, label) in [("", "any"), ("true", "yes"), ("false", "no")] {
                    option value=(word) selected[chosen == Some(word)] { (label) }
                }
            }
        }
    }
}

fn empty(visit: &Visit) -> Markup {
    if !visit.query.only(&FILTERS).is_empty() {
        return parts::empty(
            "No subscriber matches",
            "Take a filter away. A URL must match in upper and lower case.",
            None,
        );
    }
    parts::empty(
        "No subscriber yet",
        "A subscriber is a URL and the event types that it gets. Create one here, or with:",
        Some(
            "curl -s \"$POSTRIDER_URL/v1/subscribers\" -H \"Authorization: Bearer $POSTRIDER_KEY\" \\\n  \
             -H 'Content-Type: application/json' -d '{\"url\": \"https://example.com/hook\", \"events\": [\"order.*\"]}'",
        ),
    )
}

/// Whether a subscriber gets its deliveries, and if not, why.
fn state(subscriber: &SubscriberView) -> Markup {
    if let Some(reason) = subscriber.deactivation_reason {
        return parts::badge("–", if reason.as_str() == "requested" { "off" } else { "bad" }, "inactive");
    }
    if subscriber.paused_at.is_some() {
        return parts::badge("‖", "warn", "paused");
    }
    match subscriber.breaker.state {
        BreakerState::Open => parts::badge("!", "bad", "breaker open"),
        BreakerState::HalfOpen => parts::badge("◔", "warn", "probing"),
        BreakerState::Closed if subscriber.breaker.failures > 0 => parts::badge("!", "warn", "failing"),
        BreakerState::Closed => parts::badge("✓", "good", "active"),
    }
}

/// The first patterns, and how many others there are.
fn patterns(patterns: &[String]) -> Markup {
    const SHOWN: usize = 3;
    let rest = patterns.len().saturating_sub(SHOWN);
    html! {
        span title=(patterns.join(", ")) {
            (patterns.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))
            @if rest > 0 { " +" (rest) }
        }
    }
}

/// Reads a subscriber by its id or its uid.
async fn read(visit: &Visit, id: &str) -> Result<SubscriberView, Failure> {
    visit.get(&format!("{API}/{}", segment(id)), &Query::default()).await
}

/// The path of a subscriber's page.
fn page_of(subscriber: &SubscriberView) -> String {
    format!("{PATH}/{}", subscriber.id)
}
