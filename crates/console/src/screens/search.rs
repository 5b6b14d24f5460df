//! The search box: where it leads, and what it understands.

mod words;

use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use maud::html;
use postrider_api::Moment;
use postrider_api::delivery::DeliveryView;
use postrider_core::{AttemptId, DeliveryId};

use self::words::{Target, read};
use super::Screen;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::visit::Visit;

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/search", get(search))
}

async fn search(visit: Visit) -> Response {
    const EXAMPLES: [(&str, &str); 6] = [
        ("evt_… · dlv_… · att_… · sub_… · rpl_… · key_…", "the page of that id"),
        (
            "status:dead code:5xx",
            "deliveries by their status and their last response; also kind:timeout_headers, reason:gone",
        ),
        (
            "type:order.* since:1h",
            "deliveries by event type and time: 30m, 1h, 2d, or a time such as 2026-11-28T18:00:00Z",
        ),
        ("sub:sub_… attempts:3", "deliveries to a subscriber, by id or uid, with at least three attempts"),
        ("key:order-17", "the event to which an application gave this id"),
        ("url:example.com · uid:billing", "subscribers"),
    ];
    let text = visit.query.get("q").unwrap_or_default();
    let unknown = match read(text, visit.now) {
        Target::Attempt(id) => return of_attempt(&visit, id).await,
        Target::Page(path, query) if !text.is_empty() => return visit.go_to(&query.after(&path), ""),
        Target::Page(..) => Vec::new(),
        Target::Unknown(unknown) => unknown,
    };
    let main = html! {
        (parts::head(&html! { "Search" }, &html! {}))
        @if !unknown.is_empty() {
            div.panel.problem {
                p { "Nothing is known about " @for word in &unknown { code { (word) } " " } }
            }
        }
        div.panel {
            h2 { "What the search box understands" }
            dl.facts { @for (text, what) in EXAMPLES { div { dt { code { (text) } } dd { (what) } } } }
        }
    };
    visit.page("Search", Section::None, main).into_response()
}

/// The delivery of an attempt. A first attempt that succeeded has the id of its delivery; others are stored by their delivery.
async fn of_attempt(visit: &Visit, id: AttemptId) -> Response {
    let delivery = DeliveryId::from_uuid(id.uuid());
    match visit.get_if_allowed::<DeliveryView>(&format!("/v1/deliveries/{delivery}"), &Query::default()).await
    {
        Ok(Some(_)) => return visit.go_to(&format!("deliveries/{delivery}"), ""),
        Ok(None) => {}
        Err(failure) => return failure.into_response(),
    }
    let made = Moment(id.made_at());
    let before = Query::default().with("until", made.to_string()).with("min_attempts", 1);
    let main = html! {
        (parts::head(&html! { "Attempt " (id) }, &html! {}))
        div.panel {
            p { "It was made " (parts::at(made, visit.now)) ", if there is such an attempt. Attempts are kept by their delivery, and this one is not the "
                "first of a delivery that succeeded at once, so its id alone does not lead to it." }
            p { "Look for it among "
                a href=(visit.link_with("deliveries", &before)) { "the deliveries of events from before that time that have attempts" }
                ", or search for the id of its event, its delivery or its subscriber." }
        }
    };
    visit.page("Attempt", Section::None, main).into_response()
}
