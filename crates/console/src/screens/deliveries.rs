//! The list of deliveries, with every filter of the API.

use axum::routing::get;
use maud::{Markup, html};
use postrider_api::delivery::DeliveryList;
use postrider_core::key::Scope;
use postrider_core::{DeadReason, DeliveryStatus, ErrorKind};

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/deliveries", get(list))
}

/// The filters of the API, under its names.
pub(super) const FILTERS: [&str; 11] = [
    "subscriber_id",
    "event",
    "event_id",
    "status",
    "response_code",
    "error_kind",
    "dead_reason",
    "min_attempts",
    "max_attempts",
    "since",
    "until",
];

const CURL: &str = "curl -s $POSTRIDER_URL/v1/subscribers -H \"Authorization: Bearer $POSTRIDER_KEY\" \\\n  -H 'Content-Type: application/json' -d '{\"url\":\"https://example.com/hook\",\"events\":[\"order.*\"]}'";

async fn list(visit: Visit) -> Result<Page, Failure> {
    let filters = visit.query.only(&FILTERS);
    let paging = visit.query.only(&["limit", "cursor"]);
    let query = paging.pairs().fold(filters.clone(), |query, (name, value)| query.with(name, value));
    let deliveries: DeliveryList = visit.get("/v1/deliveries", &query).await?;
    let now = visit.now;
    let rows = deliveries.data.iter().map(|delivery| Row {
        id: Some(delivery.id.to_string()),
        cells: vec![
            parts::id(&visit, "deliveries", delivery.id),
            parts::status(delivery.status),
            html! {
                (parts::code(delivery.response_code, delivery.error_kind.map(ErrorKind::as_str)))
                @if let Some(reason) = delivery.dead_reason { br; small { (text::words(reason.as_str())) } }
            },
            html! { (delivery.attempts) },
            html! { a href=(visit.link(&format!("events/{}", delivery.event_id))) title=(delivery.event_id) { code { (delivery.event_type) } } },
            parts::id(&visit, "subscribers", delivery.subscriber_id),
            html! {
                (parts::ago(delivery.created_at, now))
                @if let Some(next) = delivery.next_attempt_at { br; small { "next " (parts::ago(next, now)) } }
            },
        ],
    });
    let columns = [
        ("Delivery", ""),
        ("Status", ""),
        ("Response", ""),
        ("Attempts", "num"),
        ("Event", ""),
        ("Subscriber", ""),
        ("Created", ""),
    ];
    let main = html! {
        (parts::head(&html! { "Deliveries" }, &actions(&visit, &filters)))
        (filter(&visit, &filters))
        @if !deliveries.data.is_empty() { (table("Deliveries, newest first", &columns, rows)) }
        @else if deliveries.next_cursor.is_some() { p.quiet { "None of the rows that were examined match. Older ones may." } }
        @else { (nothing(&visit, &filters).await) }
        (parts::pages(&visit, "deliveries", deliveries.next_cursor.as_deref()))
    };
    Ok(visit.page("Deliveries", Section::Deliveries, main))
}

/// What can be done with everything that the filter matches.
fn actions(visit: &Visit, filters: &Query) -> Markup {
    let mode = match filters.get("status") {
        Some("dead") => "dead",
        _ => "all",
    };
    html! {
        @if visit.may(Scope::ReplaysWrite) {
            a.button data-key="r" href=(visit.link_with("deliveries/replay", &filters.with("mode", mode))) { "Replay all that match…" }
        }
        @if visit.may(Scope::DeliveriesRetry) && matches!(filters.get("status"), None | Some("pending")) {
            a.button.plain data-key="x" href=(visit.link_with("deliveries/cancel", filters)) { "Cancel all that match…" }
        }
    }
}

fn filter(visit: &Visit, filters: &Query) -> Markup {
    let is_more = ["dead_reason", "event_id", "until", "min_attempts", "max_attempts"]
        .iter()
        .any(|name| filters.get(name).is_some());
    html! {
        form.filters role="search" aria-label="Filter deliveries" {
            (parts::choice(visit, "status", "Status", DeliveryStatus::ALL.iter().map(|status| status.as_str())))
            (parts::field(visit, "response_code", "Response", "503 or 5xx"))
            (parts::choice(visit, "error_kind", "Failure", ErrorKind::ALL.iter().map(|kind| kind.as_str())))
            (parts::field(visit, "event", "Type", "order.*"))
            (parts::field(visit, "subscriber_id", "Subscriber", "sub_… or uid"))
            (parts::field(visit, "since", "Since", "2026-11-28T18:00:00Z"))
            @if let Some(tenant) = &visit.chosen { input type="hidden" name="tenant" value=(tenant); }
            button.primary { "Filter" }
            @if !filters.is_empty() { a.button.plain href=(visit.link("deliveries")) { "Clear" } }
            details open[is_more] {
                summary { "More filters" }
                div.more {
                    (parts::field(visit, "until", "Until", "2026-11-28T19:00:00Z"))
                    (parts::choice(visit, "dead_reason", "Dead because", DeadReason::ALL.iter().map(|reason| reason.as_str())))
                    (parts::field(visit, "event_id", "Event", "evt_…"))
                    (parts::field(visit, "min_attempts", "Attempts from", "2"))
                    (parts::field(visit, "max_attempts", "to", "5"))
                }
            }
        }
    }
}

/// An empty list: the nearest older match, if the filter has a time; otherwise how to get a first delivery.
async fn nothing(visit: &Visit, filters: &Query) -> Markup {
    if filters.is_empty() {
        return parts::empty(
            "No deliveries yet",
            "An event makes one for each subscriber whose patterns match its type. Subscribe an endpoint, then dispatch an event:",
            Some(CURL),
        );
    }
    let older = match filters.get("since") {
        Some(since) => {
            let query = filters.without("since").without("until").with("until", since).with("limit", 1);
            visit
                .get::<DeliveryList>("/v1/deliveries", &query)
                .await
                .ok()
                .and_then(|list| list.data.into_iter().next())
        }
        None => None,
    };
    html! {
        (parts::empty("No delivery matches", "All filters must fit at once. Remove one of them, or look at a longer time.", None))
        @if let Some(older) = older {
            p { "The newest older match is " (parts::id(visit, "deliveries", older.id)) ", created " (parts::ago(older.created_at, visit.now)) ". "
                a href=(visit.link_with("deliveries", &filters.without("since"))) { "Show all older ones" } }
        }
    }
}
