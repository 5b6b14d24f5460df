//! One subscriber: its health, its queue, its settings, its latest deliveries and changes.

use std::time::Duration;

use axum::extract::Path;
use maud::{Markup, html};
use postrider_api::Moment;
use postrider_api::audit::AuditList;
use postrider_api::delivery::DeliveryList;
use postrider_api::queue::{LaneList, LaneView};
use postrider_api::series::SeriesView;
use postrider_api::stats::StatsView;
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use postrider_core::{ErrorKind, Timestamp};

use super::{fields, page_of, patterns, read, state};
use crate::chart;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::screens::audit;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

/// The span of the sparkline.
const DAY: Duration = Duration::from_hours(24);

pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let subscriber = read(&visit, &id).await?;
    let own = Query::default().with("subscriber_id", subscriber.id);
    let since =
        Timestamp::from_millis(visit.now.millis() - i64::try_from(DAY.as_millis()).unwrap_or_default());
    let span = own.with("from", Moment(since)).with("step", "1h");
    let series: Option<SeriesView> = visit.get_if_allowed("/v1/stats/series", &span).await?;
    let stats: Option<StatsView> = visit.get_if_allowed("/v1/stats", &own).await?;
    let lane = lane(&visit, &subscriber).await?;
    let deliveries: Option<DeliveryList> =
        visit.get_if_allowed("/v1/deliveries", &own.with("limit", 10)).await?;
    let changes = Query::default().with("target", subscriber.id).with("limit", 5);
    let changes: Option<AuditList> = visit.get_if_allowed("/v1/audit", &changes).await?;
    let main = html! {
        (parts::crumbs(&visit, &[("subscribers", "Subscribers")]))
        (parts::head(&html! { span.address title=(subscriber.url) { (subscriber.url) } (state(&subscriber)) }, &actions(&visit, &subscriber)))
        p.lead {
            @if !subscriber.description.is_empty() { (subscriber.description) " · " }
            (since_when(&visit, &subscriber))
        }
        div.numbers {
            (health(series.as_ref()))
            (queue(&visit, stats.as_ref(), series.as_ref(), lane.as_ref()))
        }
        @if let Some(deliveries) = &deliveries { (latest(&visit, &own, deliveries)) }
        div.columns {
            section.panel { h2 { "What it gets" } (matching(&visit, &subscriber)) }
            section.panel { h2 { "How it is delivered" } (parts::facts(&fields::policy(&subscriber))) }
            section.panel { h2 { "Identity" } (identity(&visit, &subscriber)) }
        }
        @if let Some(changes) = &changes {
            section {
                h2 { "Changes" }
                @if changes.data.is_empty() { p.quiet { "None is recorded." } } @else { (audit::entries(&visit, &changes.data)) }
                p { a href=(visit.link(&format!("audit?target={}", subscriber.id))) { "All changes" } }
            }
        }
    };
    Ok(visit.page("Subscriber", Section::Subscribers, main))
}

fn actions(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    let page = page_of(subscriber);
    let to = |action: &str| format!("{page}/{action}");
    html! {
        @if subscriber.active && visit.may(Scope::EventsWrite) { (parts::action(visit, &to("test"), "Send a test event", None)) }
        @if visit.may(Scope::SubscribersWrite) {
            @if subscriber.paused_at.is_some() { (parts::action(visit, &to("resume"), "Resume", Some("r"))) }
            @else if subscriber.active { (parts::action(visit, &to("pause"), "Pause", None)) }
            a.button.plain href=(visit.link(&to("edit"))) { "Edit" }
            @if subscriber.active { a.button.plain href=(visit.link(&to("deactivate"))) { "Deactivate…" } }
            @else { (parts::action(visit, &to("activate"), "Activate", None)) }
            a.button.plain href=(visit.link(&to("delete"))) data-key="x" { "Delete…" }
        }
    }
}

fn since_when(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    let breaker = &subscriber.breaker;
    html! {
        @if let Some(at) = subscriber.deactivated_at {
            @if let Some(reason) = subscriber.deactivation_reason { (text::words(reason.as_str())) ", " }
            "since " (parts::ago(at, visit.now)) }
        @else if let Some(at) = subscriber.paused_at { "deliveries wait since " (parts::ago(at, visit.now)) }
        @else if let Some(until) = breaker.open_until { "tries again " (parts::ago(until, visit.now)) }
        @else if let Some(since) = breaker.failing_since {
            (text::counted(breaker.failures.into(), "failure", "failures")) " in a row, since " (parts::ago(since, visit.now))
        }
        @else { "no failure since its last success" }
    }
}

/// Attempts of the last day.
fn health(series: Option<&SeriesView>) -> Markup {
    let Some(series) = series else { return html! {} };
    let total = &series.total;
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let (share, values) = (
        (total.attempts > 0).then(|| total.succeeded as f64 / total.attempts as f64),
        series.points.iter().map(|point| point.attempts.attempts as f64).collect::<Vec<_>>(),
    );
    let label = format!("{} in the last 24 hours", text::counted(total.attempts, "attempt", "attempts"));
    html! {
        div.card.number {
            span.name { "Successful attempts" }
            span.value { @if let Some(share) = share { (text::percent(share)) } @else { (parts::none()) } }
            small { (label) }
            (chart::spark(&values, "attempts", total.failed > total.succeeded))
        }
        div.card.number {
            span.name { "Response time" }
            span.value { (millis(total.duration_ms.p50)) }
            small {
                @if total.duration_ms.p50.is_some() { "median; 95 % within " (millis(total.duration_ms.p95)) } @else { "no attempt in the last 24 hours" }
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "durations are short")]
fn millis(value: Option<u64>) -> Markup {
    html! { @if let Some(value) = value { (text::millis(value as f64)) } @else { (parts::none()) } }
}

/// The lane of the subscriber, if deliveries wait in it and the key may see the queue.
async fn lane(visit: &Visit, subscriber: &SubscriberView) -> Result<Option<LaneView>, Failure> {
    let of_one = Query::default().with("subscriber_id", subscriber.id);
    let lanes: Option<LaneList> = visit.get_if_allowed("/v1/queue/lanes", &of_one).await?;
    Ok(lanes.and_then(|lanes| lanes.data.into_iter().next()))
}

fn queue(
    visit: &Visit,
    stats: Option<&StatsView>,
    series: Option<&SeriesView>,
    lane: Option<&LaneView>,
) -> Markup {
    let Some(stats) = stats else { return html! {} };
    let pending = stats.deliveries.pending;
    html! {
        div.card.number {
            span.name { "Pending" }
            span.value { (text::count(pending)) }
            small {
                @if pending == 0 { "nothing waits" }
                @else if let Some(seconds) = drain_seconds(pending, series, lane) {
                    "drains in about " (text::duration(Duration::from_secs(seconds)))
                } @else { "no attempt in the last hour" }
                @if let Some(lane) = lane { "; the oldest is due for " (text::seconds(lane.oldest_seconds)) }
            }
        }
        div.card.number {
            span.name { "Dead letters" }
            span.value {
                @if stats.deliveries.dead > 0 && visit.may(Scope::DeliveriesRead) {
                    a href=(visit.link(&format!("dead-letters?subscriber_id={}", visit.path().rsplit('/').next().unwrap_or_default()))) {
                        (text::count(stats.deliveries.dead))
                    }
                } @else { (text::count(stats.deliveries.dead)) }
            }
            small { "of " (text::counted(stats.deliveries.total, "delivery", "deliveries")) }
        }
    }
}

/// How long the pending deliveries take: at the rate limit, or as fast as in the last hour.
fn drain_seconds(pending: u64, series: Option<&SeriesView>, lane: Option<&LaneView>) -> Option<u64> {
    /// A rate of less than this is none.
    const LEAST: f64 = 1e-6;
    let limit = lane.and_then(|lane| lane.rate_limit).map(|rate| rate.per_second);
    let latest = series.and_then(|series| {
        let points = series.points.iter().rev().take(2);
        let attempts: u64 = points.map(|point| point.attempts.attempts).sum();
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        (attempts > 0).then(|| attempts as f64 / (2.0 * 3_600.0))
    });
    let rate = limit.or(latest).filter(|rate| *rate > LEAST)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a positive estimate; `as` keeps to the bounds"
    )]
    Some((pending as f64 / rate).ceil() as u64)
}

fn latest(visit: &Visit, own: &Query, deliveries: &DeliveryList) -> Markup {
    let columns = [
        ("Status", ""),
        ("Delivery", ""),
        ("Event type", "wide"),
        ("Last answer", ""),
        ("Attempts", "num"),
        ("Created", ""),
    ];
    let rows = deliveries.data.iter().map(|delivery| Row {
        id: Some(delivery.id.to_string()),
        cells: vec![
            parts::status(delivery.status),
            parts::id(visit, "deliveries", delivery.id),
            html! { span.cut { (delivery.event_type) } },
            parts::code(delivery.response_code, delivery.error_kind.map(ErrorKind::as_str)),
            html! { (delivery.attempts) },
            parts::ago(delivery.created_at, visit.now),
        ],
    });
    html! {
        section {
            h2 { "Latest deliveries" }
            @if deliveries.data.is_empty() {
                p.quiet { "None yet. Send a test event, or dispatch an event of a type that it receives." }
            } @else {
                (table("Latest deliveries", &columns, rows))
                p { a href=(visit.link_with("deliveries", own)) { "All deliveries" } }
            }
        }
    }
}

fn matching(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    let mut rows = vec![("Event types", patterns(&subscriber.events))];
    if let Some(channels) = &subscriber.channels {
        rows.push(("Channels", html! { (channels.iter().collect::<Vec<_>>().join(", ")) }));
    }
    if let Some(filter) = &subscriber.filter {
        rows.push(("Filter", html! { code { (filter) } }));
    }
    rows.extend(fields::shape(subscriber));
    html! {
        (parts::facts(&rows))
        @if visit.may(Scope::EventsRead) {
            p { a.button.small href=(visit.link(&format!("{}/try", page_of(subscriber)))) { "Try on its latest events" } }
        }
    }
}

fn identity(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    let page = page_of(subscriber);
    let mut rows = vec![("Id", parts::copied(&subscriber.id.to_string()))];
    if let Some(uid) = &subscriber.uid {
        rows.push(("uid", html! { code { (uid) } }));
    }
    rows.extend(fields::identity(subscriber));
    rows.push(("Created", parts::at(subscriber.created_at, visit.now)));
    rows.push(("Changed", parts::at(subscriber.updated_at, visit.now)));
    html! {
        (parts::facts(&rows))
        div.row {
            @if visit.may(Scope::SecretsRead) { (parts::action(visit, &format!("{page}/secret"), "Show the secret", None)) }
            @if visit.may(Scope::SecretsRotate) {
                a.button.small.plain href=(visit.link(&format!("{page}/rotate"))) { "Rotate the secret…" }
            }
        }
    }
}
