//! The list of events.

use axum::routing::get;
use maud::html;
use postrider_api::event::{EventList, FanOut};

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/events", get(list))
}

const FILTERS: [&str; 4] = ["event", "idempotency_key", "limit", "cursor"];

const CURL: &str = "curl -s $POSTRIDER_URL/v1/events -H \"Authorization: Bearer $POSTRIDER_KEY\" \\\n  -H 'Content-Type: application/json' -d '{\"event\":\"order.created\",\"data\":{\"order\":1}}'";

async fn list(visit: Visit) -> Result<Page, Failure> {
    let query = visit.query.only(&FILTERS);
    let events: EventList = visit.get("/v1/events", &query).await?;
    let now = visit.now;
    let rows = events.data.iter().map(|event| Row {
        id: Some(event.id.to_string()),
        cells: vec![
            parts::id(&visit, "events", event.id),
            html! { code { (event.event_type) } },
            parts::ago(event.created_at, now),
            html! {
                @if event.subscribers_found == 0 { span.quiet { "no subscriber" } }
                @else { (text::count(u64::from(event.subscribers_found))) }
                @if event.fan_out == FanOut::Continuing { " " (parts::badge("◔", "wait", "fanning out")) }
            },
            html! { code { (event.agent_id) } },
            html! { @if let Some(key) = &event.idempotency_key { code.cut { (key) } } @else { (parts::none()) } },
        ],
    });
    let columns = [
        ("Event", ""),
        ("Type", ""),
        ("Dispatched", ""),
        ("Subscribers", "num"),
        ("Agent", ""),
        ("Given id", "wide"),
    ];
    let is_filtered = query.get("event").is_some() || query.get("idempotency_key").is_some();
    let main = html! {
        (parts::head(&html! { "Events" }, &html! {}))
        form.filters role="search" aria-label="Filter events" {
            (parts::field(&visit, "event", "Type", "order.created"))
            (parts::field(&visit, "idempotency_key", "Given id", "order-17"))
            @if let Some(tenant) = &visit.chosen { input type="hidden" name="tenant" value=(tenant); }
            button.primary { "Filter" }
            @if is_filtered { a.button.plain href=(visit.link("events")) { "Clear" } }
        }
        @if !events.data.is_empty() { (table("Events, newest first", &columns, rows)) }
        @else if events.next_cursor.is_some() { p.quiet { "None of the rows that were examined match. Older ones may." } }
        @else if is_filtered {
            (parts::empty("No event matches", "A type must be given in full here; deliveries also take patterns such as order.*. An id is known for as long as idempotency keys are kept.", None))
        } @else { (parts::empty("No events yet", "Dispatch one, and it appears here:", Some(CURL))) }
        (parts::pages(&visit, "events", events.next_cursor.as_deref()))
    };
    Ok(visit.page("Events", Section::Events, main))
}
