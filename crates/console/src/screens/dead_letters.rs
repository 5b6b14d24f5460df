//! Dead letters, grouped by subscriber and reason, and what can be done with a group.

mod act;
mod groups;

use axum::routing::get;
use maud::{Markup, html};
use postrider_api::delivery::{DeliveryList, DeliveryView};
use postrider_core::key::Scope;
use postrider_core::{DeadReason, ErrorKind};

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};
use groups::Groups;

const PATH: &str = "dead-letters";
const API: &str = "/v1/dead-letters";

/// The filters of the API.
const FILTERS: [&str; 5] = ["subscriber_id", "event", "reason", "since", "until"];

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/dead-letters", get(list))
        .route("/console/dead-letters/requeue", get(act::ask_requeue).post(act::requeue))
        .route("/console/dead-letters/delete", get(act::ask_delete).post(act::delete))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: DeliveryList = visit.get(API, &visit.query).await?;
    let filter = visit.query.only(&FILTERS);
    let groups = if visit.query.get("cursor").is_none() && !page.data.is_empty() {
        Some(groups::read(&visit, &filter).await?)
    } else {
        None
    };
    let main = html! {
        (parts::head(&html! { "Dead letters" }, &all_actions(&visit, &filter, page.data.is_empty())))
        p.lead { "Deliveries that Postrider has given up. Requeueing one begins a new round of attempts." }
        (filters(&visit))
        @if page.data.is_empty() && visit.query.get("cursor").is_none() {
            (empty(&filter))
        } @else {
            @if let Some(groups) = &groups { (grouped(&visit, &filter, groups)) }
            section {
                h2 { "Newest" }
                (rows(&visit, &page.data))
                (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
            }
        }
    };
    Ok(visit.page("Dead letters", Section::DeadLetters, main))
}

/// What can be done with everything that the filter matches.
fn all_actions(visit: &Visit, filter: &Query, none: bool) -> Markup {
    html! {
        @if !none && visit.may(Scope::DeliveriesRetry) {
            a.button href=(visit.link_with("dead-letters/requeue", filter)) data-key="r" { "Requeue…" }
        }
        @if !none && visit.may(Scope::ReplaysWrite) {
            a.button.plain href=(visit.link_with("deliveries/replay", &as_replay(filter))) { "Replay…" }
        }
    }
}

/// The same filter under the names that replays have for it.
fn as_replay(filter: &Query) -> Query {
    let query = filter.only(&["subscriber_id", "event"]).with("mode", "dead");
    match filter.get("reason") {
        Some(reason) => query.with("dead_reason", reason),
        None => query,
    }
}

fn filters(visit: &Visit) -> Markup {
    html! {
        form.filters method="get" role="search" aria-label="Filter" {
            (parts::field(visit, "subscriber_id", "Subscriber", "sub_… or uid"))
            (parts::field(visit, "event", "Event type", "order.created"))
            (parts::choice(visit, "reason", "Reason", DeadReason::ALL.iter().map(|reason| reason.as_str())))
            (parts::field(visit, "since", "Died since", "2026-01-31T00:00:00Z"))
            (parts::field(visit, "until", "Died before", "2026-02-01T00:00:00Z"))
            (parts::hidden(visit, &Query::default()))
            button.primary { "Filter" }
        }
    }
}

fn empty(filter: &Query) -> Markup {
    if filter.is_empty() {
        return parts::empty(
            "No dead letters",
            "Every delivery has succeeded, is still being attempted, or was cancelled. A delivery becomes a dead letter when its \
             last attempt fails, or when its receiver answers 410.",
            None,
        );
    }
    parts::empty("No dead letter matches", "Take a filter away, or begin earlier.", None)
}

fn grouped(visit: &Visit, filter: &Query, groups: &Groups) -> Markup {
    let columns = [("Subscriber", "most"), ("Why", ""), ("Count", "num"), ("Newest", ""), ("", "act")];
    let rows = groups.all.iter().map(|group| {
        let id = group.subscriber.to_string();
        let only = filter.with("subscriber_id", &id).with("reason", group.reason.as_str());
        let name = groups.name(group.subscriber);
        Row {
            id: Some(id.clone()),
            cells: vec![
                html! { a.clamp href=(visit.link_with(PATH, &only)) title=(name) { (name) } },
                why(group.code, group.kind, Some(group.reason)),
                html! { (text::count(group.count)) @if groups.more { "+" } },
                html! { (parts::ago(group.newest, visit.now)) br; small { "oldest " (parts::ago(group.oldest, visit.now)) } },
                actions(visit, &only, &name),
            ],
        }
    });
    html! {
        section {
            h2 { "By subscriber and reason" }
            (table("Dead letters by subscriber and reason", &columns, rows))
            @if groups.more {
                p.quiet { "Grouped from the newest " (text::count(groups::MOST)) " of them." }
            }
        }
    }
}

fn actions(visit: &Visit, only: &Query, name: &str) -> Markup {
    let of = html! { span.unseen { " of " (name) } };
    html! {
        div.row {
            @if visit.may(Scope::DeliveriesRetry) {
                a.button.small href=(visit.link_with("dead-letters/requeue", only)) { "Requeue…" (of) }
            }
            @if visit.may(Scope::ReplaysWrite) {
                a.button.small.plain href=(visit.link_with("deliveries/replay", &as_replay(only))) { "Replay…" (of) }
            }
            @if visit.may(Scope::DeliveriesRetry) {
                a.button.small.plain href=(visit.link_with("dead-letters/delete", only)) { "Delete…" (of) }
            }
        }
    }
}

/// How the last attempt failed, and why no other follows.
fn why(code: Option<u16>, kind: Option<ErrorKind>, reason: Option<DeadReason>) -> Markup {
    html! {
        (parts::code(code, kind.map(ErrorKind::as_str)))
        @if let Some(reason) = reason { br; small { (text::words(reason.as_str())) } }
    }
}

fn rows(visit: &Visit, deliveries: &[DeliveryView]) -> Markup {
    let columns = [
        ("Delivery", ""),
        ("Why", ""),
        ("Attempts", "num"),
        ("Event type", "some"),
        ("Event", ""),
        ("Subscriber", ""),
        ("Died", ""),
    ];
    let rows = deliveries.iter().map(|delivery| Row {
        id: Some(delivery.id.to_string()),
        cells: vec![
            parts::id(visit, "deliveries", delivery.id),
            why(delivery.response_code, delivery.error_kind, delivery.dead_reason),
            html! { (delivery.attempts) },
            html! { (delivery.event_type) },
            parts::id(visit, "events", delivery.event_id),
            parts::id(visit, "subscribers", delivery.subscriber_id),
            parts::maybe_ago(delivery.ended_at, visit.now),
        ],
    });
    table("Dead letters, newest first", &columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_takes_over_the_filter_under_its_own_names() {
        let filter = Query::read(b"subscriber_id=sub_1&event=a.b&reason=gone&since=2026-01-01T00:00:00Z");
        assert_eq!(
            as_replay(&filter).to_string(),
            "subscriber_id=sub_1&event=a.b&mode=dead&dead_reason=gone"
        );
        assert_eq!(as_replay(&Query::default()).to_string(), "mode=dead");
    }
}
