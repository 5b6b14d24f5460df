//! The story of one event: what it is, who got it, who did not and why.

use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use maud::{Markup, html};
use postrider_api::attempt::AttemptList;
use postrider_api::delivery::DeliveryView;
use postrider_api::event::{EventDetail, FanOut, PayloadGone};
use postrider_api::explain::{ExplainList, ExplainReason, Explained, ExplainedView};
use postrider_core::key::Scope;

use super::Screen;
use super::envelope::envelope;
use super::exchange;
use crate::failure::Failure;
use crate::json;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/events/{id}", get(story)).route("/console/events/{id}/erase", get(ask).post(erase))
}

/// The largest envelope that the page shows.
const LARGEST: usize = 256 * 1024;

/// Of how many deliveries the matrix shows each attempt.
const IN_MATRIX: usize = 10;

/// How many attempts of a delivery it shows.
const ATTEMPTS: usize = 8;

async fn story(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let path = format!("/v1/events/{}", segment(&id));
    let explained = Query::default().with("limit", 250);
    let explained = match visit.query.get("explain_cursor") {
        Some(cursor) => explained.with("cursor", cursor),
        None => explained,
    };
    let explain_path = format!("{path}/explain");
    let none = Query::default();
    let (detail, explained) = futures_util::future::join(
        visit.get::<EventDetail>(&path, &none),
        visit.get_if_allowed::<ExplainList>(&explain_path, &explained),
    )
    .await;
    let (detail, explained) = (detail?, explained?);
    let event = &detail.event;
    let attempts = attempts(&visit, &detail.deliveries).await?;
    let may_erase = visit.may(Scope::EventsWrite) && detail.payload != Some(PayloadGone::Erased);
    let actions = html! {
        @if may_erase { a.button href=(visit.link(&format!("events/{id}/erase"))) { "Erase payload" } }
        @if visit.may(Scope::ReplaysWrite) {
            a.button data-key="r" href=(visit.link(&format!("deliveries/replay?event_id={}&mode=all", segment(&id)))) { "Replay" }
        }
    };
    let main = html! {
        p.crumbs { a href=(visit.link("events")) { "Events" } }
        (parts::head(&html! { span { (event.event_type) } code { (parts::copied(&event.id.to_string())) } }, &actions))
        div.panel { (facts(&visit, &detail, &attempts)) }
        h2 { "Deliveries" }
        (matrix(&visit, &detail, &attempts, explained.as_ref()))
        @if let Some(explained) = &explained { (others(&visit, &id, explained)) }
        h2 { "Envelope" }
        (body(&detail))
    };
    Ok(visit.page(&format!("{} · event", event.event_type), Section::Events, main))
}

fn facts(visit: &Visit, detail: &EventDetail, attempts: &[Option<AttemptList>]) -> Markup {
    let trace = exchange::trace(attempts.iter().flatten().flat_map(|list| &list.data));
    let event = &detail.event;
    let found = text::counted(u64::from(event.subscribers_found), "subscriber", "subscribers");
    parts::facts(&[
        ("Dispatched", parts::at(event.created_at, visit.now)),
        ("Agent", html! { code { (event.agent_id) } }),
        (
            "Matched",
            html! { (found) @if event.fan_out == FanOut::Continuing { " · " (text::count(u64::from(event.jobs_created))) " jobs so far" } },
        ),
        (
            "Given id",
            html! { @if let Some(key) = &event.idempotency_key { (parts::copied(key)) } @else { (parts::none()) } },
        ),
        ("Trace", html! { @if let Some(trace) = trace { (parts::copied(trace)) } @else { (parts::none()) } }),
        (
            "Channels",
            html! {
                @if let Some(channels) = &event.channels { @for channel in channels.iter() { code { (channel) } " " } } @else { (parts::none()) }
            },
        ),
        (
            "Metadata",
            html! {
                @if event.metadata.is_empty() { (parts::none()) }
                @for (name, value) in &event.metadata { div { code { (name) } ": " (value) } }
            },
        ),
    ])
}

/// The attempts of the first deliveries, so far as the key may see them.
async fn attempts(visit: &Visit, deliveries: &[DeliveryView]) -> Result<Vec<Option<AttemptList>>, Failure> {
    let read = |delivery: &DeliveryView| {
        let path = format!("/v1/deliveries/{}/attempts", delivery.id);
        let has_attempts = delivery.attempts > 0;
        async move {
            let query = Query::default().with("limit", ATTEMPTS);
            if has_attempts { visit.get_if_allowed(&path, &query).await } else { Ok(None) }
        }
    };
    futures_util::future::try_join_all(deliveries.iter().take(IN_MATRIX).map(read)).await
}

/// Subscribers by attempts.
fn matrix(
    visit: &Visit,
    detail: &EventDetail,
    attempts: &[Option<AttemptList>],
    explained: Option<&ExplainList>,
) -> Markup {
    let deliveries = &detail.deliveries;
    if deliveries.is_empty() {
        return html! { p.quiet { "No subscriber matched, or the deliveries were removed." } };
    }
    let url_of = |delivery: &DeliveryView| {
        let rows = explained.map(|list| list.data.as_slice()).unwrap_or_default();
        rows.iter().find(|row| row.subscriber_id == delivery.subscriber_id).map(|row| row.url.as_str())
    };
    let columns = attempts.iter().flatten().map(|list| list.data.len()).max().unwrap_or_default();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Deliveries by attempts" {
            table.rows.matrix {
                caption.unseen { "Deliveries by attempts" }
                thead {
                    tr {
                        th scope="col" { "Delivery" } th scope="col" { "Subscriber" } th scope="col" { "Status" }
                        @if columns > 0 { th scope="colgroup" colspan=(columns) { "Attempts, newest first" } }
                        th scope="col" { "Next" }
                    }
                }
                tbody {
                    @for (place, delivery) in deliveries.iter().enumerate() {
                        tr data-row data-id=(delivery.id) {
                            td { (parts::id(visit, "deliveries", delivery.id)) }
                            td.wide {
                                (parts::id(visit, "subscribers", delivery.subscriber_id))
                                @if let Some(url) = url_of(delivery) { br; small.url { (url) } }
                            }
                            td { (parts::status(delivery.status)) }
                            @let list = attempts.get(place).and_then(Option::as_ref).map(|list| list.data.as_slice()).unwrap_or_default();
                            @for attempt in list {
                                td.try {
                                    a href=(visit.link(&format!("deliveries/{}#{}", delivery.id, attempt.id))) title=(format!("attempt {}", attempt.number)) {
                                        (parts::code(attempt.response.as_ref().map(|response| response.status), attempt.error.as_ref().map(|error| error.kind.as_str())))
                                    }
                                    br; small { (text::millis(attempt.duration_ms)) }
                                }
                            }
                            @for _ in list.len()..columns { td {} }
                            td { (parts::maybe_ago(delivery.next_attempt_at, visit.now)) }
                        }
                    }
                }
            }
        }
        @if detail.deliveries_next_cursor.is_some() {
            p.pages { a href=(visit.link(&format!("deliveries?event_id={}", detail.event.id))) { "All deliveries »" } }
        }
    }
}

/// Subscribers that did not get the event.
fn others(visit: &Visit, id: &str, explained: &ExplainList) -> Markup {
    let missed: Vec<&ExplainedView> = explained.data.iter().filter(|row| row.delivery_id.is_none()).collect();
    html! {
        details.panel {
            summary { strong { "Who did not get it, and why" } " " span.quiet { "(" (missed.len()) @if explained.next_cursor.is_some() { " on this page" } ")" } }
            @if missed.is_empty() { p.quiet { "Every subscriber " @if explained.next_cursor.is_some() { "on this page " } "got it." } }
            @else {
                div.scroll tabindex="0" role="region" aria-label="Subscribers that did not get the event" {
                    table {
                        caption.unseen { "Subscribers that did not get the event" }
                        thead { tr { th scope="col" { "Subscriber" } th scope="col" { "URL" } th scope="col" { "Why" } } }
                        tbody {
                            @for row in missed {
                                tr {
                                    td { (parts::id(visit, "subscribers", row.subscriber_id)) }
                                    td.wide { span.url { (row.url) } }
                                    td.wide {
                                        (why(row.reason))
                                        @if row.as_of == Explained::Now { " " span.quiet { "(as it is now; what it was then is not known)" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @if let Some(cursor) = &explained.next_cursor {
                p { a href=(visit.link(&format!("events/{}?explain_cursor={}", segment(id), segment(cursor)))) { "More subscribers »" } }
            }
        }
    }
}

fn why(reason: ExplainReason) -> &'static str {
    match reason {
        ExplainReason::Matched => "It matched. Its delivery was removed, or is still to be made.",
        ExplainReason::Inactive => "It was not active.",
        ExplainReason::Pattern => "None of its patterns matches the type.",
        ExplainReason::Channel => "It shares no channel with the event.",
        ExplainReason::Filter => "Its filter was false.",
        ExplainReason::CreatedLater => "It was created later.",
        ExplainReason::NotAsked => "The event was a test event to another subscriber.",
    }
}

fn body(detail: &EventDetail) -> Markup {
    html! {
        @match detail.payload {
            Some(PayloadGone::Erased) => { p.quiet { "The payload was erased on request." } }
            Some(PayloadGone::Expired) => { p.quiet { "The payload was older than payloads are kept." } }
            Some(PayloadGone::Hidden) => { p.quiet { "This session’s key has no scope " code { "payloads:read" } "." } }
            None => {
                @let raw = envelope(detail);
                @if raw.len() > LARGEST {
                    p.quiet { "The envelope has " (text::count(raw.len() as u64)) " bytes, too many for a page. "
                        code { "GET /v1/events/" (detail.event.id) } " answers it." }
                } @else {
                    (json::shown(&raw))
                    details {
                        summary { "As stored, " (text::count(raw.len() as u64)) " bytes" }
                        div.sample { pre.body.wrap tabindex="0" { (raw) } button.copy type="button" data-copy="" hidden { "Copy" } }
                    }
                }
            }
        }
    }
}

async fn ask(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let detail: EventDetail = visit.get(&format!("/v1/events/{}", segment(&id)), &Query::default()).await?;
    let pending = detail.deliveries.iter().filter(|delivery| delivery.ended_at.is_none()).count();
    let what = html! {
        p { "Erase the payload of " code { (detail.event.id) } " (" (detail.event.event_type) ")?" }
        p { "Its data, and the responses to its deliveries, are removed for good. "
            @if pending > 0 { (text::counted(pending as u64, "pending delivery is", "pending deliveries are")) " cancelled." } @else { "No delivery is pending." }
        }
    };
    let path = format!("events/{}", segment(&id));
    let main = html! {
        (parts::head(&html! { "Erase payload" }, &html! {}))
        (parts::confirm(&visit, &what, &format!("{path}/erase"), &Query::default(), "Erase for good", &path))
    };
    Ok(visit.page("Erase payload", Section::Events, main))
}

async fn erase(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::DELETE, &format!("/v1/events/{}/payload", segment(&id))).await?;
    Ok(visit.go_to(&format!("events/{}", segment(&id)), "erased"))
}
