//! One delivery: its timeline, each attempt with request and response, and what can be done.

use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::future::join;
use http::Method;
use maud::{Markup, html};
use postrider_api::attempt::{AttemptList, AttemptView};
use postrider_api::delivery::DeliveryView;
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use postrider_core::{DeliveryStatus, ErrorKind};

use super::Screen;
use super::exchange;
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/deliveries/{id}", get(show))
        .route("/console/deliveries/{id}/retry", post(retry))
        .route("/console/deliveries/{id}/cancel", get(ask_to_cancel).post(cancel))
}

/// How many attempts a page shows.
const ATTEMPTS: usize = 20;

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let path = format!("/v1/deliveries/{}", segment(&id));
    let delivery: DeliveryView = visit.get(&path, &Query::default()).await?;
    let attempts_path = format!("{path}/attempts");
    let subscriber_path = format!("/v1/subscribers/{}", delivery.subscriber_id);
    let page = visit.query.only(&["cursor"]).with("limit", ATTEMPTS);
    let none = Query::default();
    let (attempts, subscriber) = join(
        visit.get::<AttemptList>(&attempts_path, &page),
        visit.get_if_allowed::<SubscriberView>(&subscriber_path, &none),
    )
    .await;
    let (attempts, subscriber) = (attempts?, subscriber?);
    let main = html! {
        p.crumbs { a href=(visit.link("deliveries")) { "Deliveries" } }
        (parts::head(
            &html! { span { (delivery.event_type) } (parts::status(delivery.status)) code { (parts::copied(&delivery.id.to_string())) } },
            &actions(&visit, &delivery),
        ))
        div.panel { (facts(&visit, &delivery, subscriber.as_ref(), &attempts.data)) }
        (compare(&visit, &delivery, &attempts.data))
        h2 { "Timeline" }
        (timeline(&visit, &delivery, &attempts.data))
        (parts::pages(&visit, &format!("deliveries/{}", delivery.id), attempts.next_cursor.as_deref()))
    };
    Ok(visit.page(&format!("{} · delivery", delivery.event_type), Section::Deliveries, main))
}

fn actions(visit: &Visit, delivery: &DeliveryView) -> Markup {
    let path = format!("deliveries/{}", delivery.id);
    let is_pending = delivery.status == DeliveryStatus::Pending;
    html! {
        a.button data-key="c" href=(visit.link(&format!("{path}/curl"))) { "As curl" }
        @if visit.may(Scope::DeliveriesRetry) {
            @if is_pending { a.button data-key="x" href=(visit.link(&format!("{path}/cancel"))) { "Cancel" } }
            @else { form.inline method="post" action=(visit.link(&format!("{path}/retry"))) { button.primary data-key="r" { "Retry" } } }
        }
    }
}

fn facts(
    visit: &Visit,
    delivery: &DeliveryView,
    subscriber: Option<&SubscriberView>,
    attempts: &[AttemptView],
) -> Markup {
    let trace = exchange::trace(attempts.iter());
    parts::facts(&[
        ("Event", parts::id(visit, "events", delivery.event_id)),
        (
            "Subscriber",
            html! {
                (parts::id(visit, "subscribers", delivery.subscriber_id))
                @if let Some(subscriber) = subscriber {
                    @if let Some(uid) = &subscriber.uid { " " code { (uid) } }
                    @if !subscriber.active { " " (parts::badge("–", "off", "not active")) }
                    br; (parts::url(&subscriber.url))
                }
            },
        ),
        ("Created", parts::at(delivery.created_at, visit.now)),
        ("Attempts", html! { (delivery.attempts) }),
        (
            "Next attempt",
            html! {
                @match (delivery.next_attempt_at, delivery.status) {
                    (Some(next), _) => { (parts::at(next, visit.now)) }
                    (None, DeliveryStatus::Pending) => { "as soon as a worker is free" }
                    _ => { (parts::none()) }
                }
            },
        ),
        (
            "Ended",
            html! { @if let Some(ended) = delivery.ended_at { (parts::at(ended, visit.now)) } @else { (parts::none()) } },
        ),
        ("Last response", parts::code(delivery.response_code, delivery.error_kind.map(ErrorKind::as_str))),
        (
            "Dead because",
            html! { @if let Some(reason) = delivery.dead_reason { (text::words(reason.as_str())) } @else { (parts::none()) } },
        ),
        ("Trace", html! { @if let Some(trace) = trace { (parts::copied(trace)) } @else { (parts::none()) } }),
    ])
}

/// A form that chooses two attempts.
fn compare(visit: &Visit, delivery: &DeliveryView, attempts: &[AttemptView]) -> Markup {
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    let [newest, .., oldest] = numbers.as_slice() else { return html! {} };
    let choice = |name: &str, label: &str, chosen: u32| {
        html! {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for number in &numbers { option value=(number) selected[*number == chosen] { (number) } }
            }
        }
    };
    html! {
        form.row.filters action=(visit.link(&format!("deliveries/{}/diff", delivery.id))) {
            @if let Some(cursor) = visit.query.get("cursor") { input type="hidden" name="cursor" value=(cursor); }
            (choice("from", "Compare attempt", *oldest)) (choice("to", "with", *newest))
            @if let Some(tenant) = &visit.chosen { input type="hidden" name="tenant" value=(tenant); }
            button { "Show the difference" }
        }
    }
}

fn timeline(visit: &Visit, delivery: &DeliveryView, attempts: &[AttemptView]) -> Markup {
    html! {
        ol.timeline {
            @if let Some(next) = delivery.next_attempt_at {
                li.wait { h3 { "Next attempt " (parts::ago(next, visit.now)) } p.quiet { (text::moment(next)) " UTC" } }
            }
            @for attempt in attempts {
                li.(if attempt.error.is_some() { "bad" } else { "good" }) id=(attempt.id) tabindex="-1" {
                    div.panel { (exchange::attempt(attempt, visit.now)) }
                }
            }
            @if visit.query.get("cursor").is_none() || attempts.last().is_some_and(|attempt| attempt.number == 1) {
                li { h3 { "Created " (parts::ago(delivery.created_at, visit.now)) } p.quiet { (text::moment(delivery.created_at)) " UTC" } }
            }
        }
    }
}

async fn retry(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::POST, &format!("/v1/deliveries/{}/retry", segment(&id))).await?;
    Ok(visit.go_to(&format!("deliveries/{}", segment(&id)), "retried"))
}

async fn ask_to_cancel(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let delivery: DeliveryView =
        visit.get(&format!("/v1/deliveries/{}", segment(&id)), &Query::default()).await?;
    let what = html! {
        p { "Cancel the delivery of " code { (delivery.event_type) } " to " (parts::id(&visit, "subscribers", delivery.subscriber_id)) "?" }
        p { "No further attempt is made, unless somebody retries it later." }
    };
    let path = format!("deliveries/{}", delivery.id);
    let main = html! {
        (parts::head(&html! { "Cancel delivery" }, &html! {}))
        (parts::confirm(&visit, &what, &format!("{path}/cancel"), &Query::default(), "Cancel delivery", &path))
    };
    Ok(visit.page("Cancel delivery", Section::Deliveries, main))
}

async fn cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::POST, &format!("/v1/deliveries/{}/cancel", segment(&id))).await?;
    Ok(visit.go_to(&format!("deliveries/{}", segment(&id)), "cancelled"))
}
