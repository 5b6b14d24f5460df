//! Now: how deliveries go, and what needs attention.

use std::time::Duration;

use axum::routing::get;
use futures_util::future::{join, join5};
use maud::{Markup, html};
use postrider_api::Moment;
use postrider_api::delivery::DeliveryList;
use postrider_api::queue::WorkerList;
use postrider_api::series::{SeriesPointView, SeriesView};
use postrider_api::stats::{PercentilesView, StatsView};
use postrider_api::subscriber::{BreakerState, SubscriberList, SubscriberView};
use postrider_core::Timestamp;
use postrider_core::key::Scope;

use super::Screen;
use crate::assets::Asset;
use crate::chart::{Chart, Line, spark};
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::Base;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console", get(show)).route("/console/", get(show))
}

/// The spans that can be chosen: their name, how many seconds they are, and the seconds of a step.
const SPANS: [(&str, u64, u64); 4] =
    [("1h", 3_600, 120), ("24h", 86_400, 1_800), ("7d", 604_800, 10_800), ("30d", 2_592_000, 86_400)];

/// How many rows of each kind of trouble are listed.
const LISTED: usize = 8;

/// What the page shows. `None`: the key may not see it.
struct Seen {
    span: (&'static str, u64, u64),
    since: Moment,
    stats: Option<StatsView>,
    series: Option<SeriesView>,
    failing: Option<SubscriberList>,
    inactive: Option<SubscriberList>,
    dead: Option<DeliveryList>,
    workers: Option<WorkerList>,
}

async fn show(visit: Visit) -> Result<Page, Failure> {
    let seen = read(&visit).await?;
    let main = html! {
        (parts::head(&html! { "Now" }, &spans(&visit, &seen)))
        (numbers(&visit, &seen))
        @let attention = attention(&visit, &seen);
        div.panel {
            h2 { "Needs attention" }
            @if attention.is_empty() {
                p.quiet { "Nothing. No subscriber fails, none was deactivated, and there are no new dead letters." }
            } @else {
                ul.attention { @for line in &attention { li { (line) } } }
            }
        }
        @if let Some(series) = &seen.series {
            script src=(Asset::Charts.link(Base::of(visit.parts.uri.path()))) defer {}
            (charts(series))
        } @else {
            p.quiet { "Numbers and charts need the scope " code { "stats:read" } "." }
        }
    };
    Ok(visit.page("Now", Section::Now, main))
}

async fn read(visit: &Visit) -> Result<Seen, Failure> {
    let chosen = visit.query.get("span").unwrap_or("24h");
    let span = SPANS.into_iter().find(|(name, ..)| *name == chosen).unwrap_or(SPANS[1]);
    let (_, seconds, step) = span;
    let since = Moment(Timestamp::from_seconds(visit.now.seconds()) - Duration::from_secs(seconds));
    let none = Query::default();
    let series = none.with("from", since).with("step", step);
    let dead = none.with("status", "dead").with("since", since).with("limit", LISTED);
    let failing = none.with("failing", true).with("active", true).with("limit", 20);
    let inactive = none.with("active", false).with("limit", LISTED);
    let stats = none.with("since", since);
    let workers = async {
        if visit.may(Scope::QueueManage) {
            visit.get_if_allowed("/v1/workers", &none).await
        } else {
            Ok(None)
        }
    };
    let (first, workers) = join(
        join5(
            visit.get_if_allowed("/v1/stats", &stats),
            visit.get_if_allowed("/v1/stats/series", &series),
            visit.get_if_allowed("/v1/subscribers", &failing),
            visit.get_if_allowed("/v1/subscribers", &inactive),
            visit.get_if_allowed("/v1/deliveries", &dead),
        ),
        workers,
    )
    .await;
    let (stats, series, failing, inactive, dead) = first;
    Ok(Seen {
        span,
        since,
        stats: stats?,
        series: series?,
        failing: failing?,
        inactive: inactive?,
        dead: dead?,
        workers: workers?,
    })
}

fn spans(visit: &Visit, seen: &Seen) -> Markup {
    html! {
        div.row role="group" aria-label="Time span" {
            @for (name, ..) in SPANS {
                a.button.plain[name != seen.span.0] aria-current=[(name == seen.span.0).then_some("true")] href=(visit.link(&format!("?span={name}"))) { (name) }
            }
        }
    }
}

fn numbers(visit: &Visit, seen: &Seen) -> Markup {
    let Some(stats) = &seen.stats else { return html! {} };
    let points = seen.series.as_ref().map(|series| series.points.as_slice()).unwrap_or_default();
    let line = |value: fn(&SeriesPointView) -> f64| -> Vec<f64> { points.iter().map(value).collect() };
    let total = seen.series.as_ref().map(|series| &series.total);
    let (attempts, failed) = total.map_or((0, 0), |total| (total.attempts, total.failed));
    let share = total.and_then(|total| share(total.succeeded, total.attempts));
    let since = format!("since={}", seen.since);
    let deliveries = |more: &str| visit.link(&format!("deliveries?{since}{more}"));
    let span = seen.span.0;
    let waiting = stats.queue.map(|queue| queue.ready + queue.scheduled + queue.held);
    let number = |href: String, name: &str, value: &str, bad: bool, small: &str, spark: Markup| {
        html! {
            a.card.number href=(href) {
                span.name { (name) } span.value.bad[bad] { (value) } small { (small) } (spark)
            }
        }
    };
    html! {
        div.numbers {
            (number(deliveries(""), "Deliveries", &text::count(stats.deliveries.total), false, &format!("{} in {span}", text::counted(attempts, "attempt", "attempts")),
                spark(&line(|point| count(point.attempts.attempts)), "attempts", false)))
            (number(deliveries("&status=succeeded"), "Success rate", &share.map_or_else(|| "–".to_owned(), text::percent), share.is_some_and(|share| share < 0.9),
                &format!("{} failed", text::count(failed)), spark(&line(|point| count(point.attempts.failed)), "failed attempts", true)))
            (number(deliveries("&status=dead"), "Dead letters", &text::count(stats.deliveries.dead), stats.deliveries.dead > 0, &format!("in {span}"),
                spark(&line(share_failed), "share of attempts that failed", true)))
            (number(deliveries("&status=pending"), "Waiting", &text::count(waiting.unwrap_or(stats.deliveries.pending)), false,
                &waited(stats), spark(&line(|point| millis(point.attempts.latency_ms.p50)), "p50 until the first attempt", false)))
            (number(deliveries(""), "First attempt", &stats.latency_ms.p95.map_or_else(|| "–".to_owned(), |p95| text::millis(count(p95))), false,
                "p95, from dispatch", spark(&line(|point| millis(point.attempts.latency_ms.p95)), "p95 until the first attempt", false)))
        }
    }
}

fn waited(stats: &StatsView) -> String {
    match stats.queue {
        Some(queue) if queue.oldest_ready_seconds >= 1.0 => {
            let oldest = Duration::try_from_secs_f64(queue.oldest_ready_seconds).unwrap_or_default();
            format!("the oldest for {}", text::duration(oldest))
        }
        Some(_) => "all tenants together".to_owned(),
        None => "pending deliveries".to_owned(),
    }
}

/// What needs attention, each with a link.
fn attention(visit: &Visit, seen: &Seen) -> Vec<Markup> {
    let mut lines = Vec::new();
    for worker in seen.workers.iter().flat_map(|list| &list.data).filter(|worker| worker.silent) {
        lines.push(html! {
            (parts::badge("!", "bad", "silent worker")) a.url href=(visit.link("queue")) { (worker.host) }
            span.quiet { "last seen " (parts::ago(worker.last_seen_at, visit.now)) ", " (worker.in_flight) " jobs claimed" }
        });
    }
    if seen.workers.as_ref().is_some_and(|list| list.data.is_empty()) {
        lines.push(html! { (parts::badge("!", "bad", "no worker")) a.url href=(visit.link("queue")) { "No worker runs" } span.quiet { "Events are accepted and wait." } });
    }
    let failing = seen.failing.iter().flat_map(|list| &list.data);
    lines.extend(failing.take(LISTED).map(|subscriber| failing_line(visit, subscriber)));
    for subscriber in seen.inactive.iter().flat_map(|list| &list.data) {
        let Some(at) = subscriber.deactivated_at.filter(|at| at.0 >= seen.since.0) else { continue };
        let why = subscriber.deactivation_reason.map_or("deactivated", |reason| reason.as_str());
        lines.push(html! {
            (parts::badge("–", "off", "deactivated")) (subscriber_link(visit, subscriber))
            span.quiet { (text::words(why)) ", " (parts::ago(at, visit.now)) }
        });
    }
    if let Some(dead) = seen.dead.as_ref().filter(|dead| !dead.data.is_empty()) {
        let more = if dead.next_cursor.is_some() { "more than " } else { "" };
        let found = text::counted(dead.data.len() as u64, "new dead letter", "new dead letters");
        lines.push(html! {
            (parts::badge("✕", "bad", "dead letters"))
            a.url href=(visit.link(&format!("deliveries?status=dead&since={}", seen.since))) { (more) (found) }
            @if let Some(newest) = dead.data.first() { span.quiet { "the newest " code { (newest.event_type) } " " (parts::ago(newest.created_at, visit.now)) } }
        });
    }
    lines
}

fn failing_line(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    let badge = match subscriber.breaker.state {
        BreakerState::Open => parts::badge("■", "bad", "breaker open"),
        BreakerState::HalfOpen => parts::badge("◔", "warn", "probing"),
        BreakerState::Closed => parts::badge("!", "warn", "failing"),
    };
    let failures =
        text::counted(u64::from(subscriber.breaker.failures), "failure in a row", "failures in a row");
    html! {
        (badge) (subscriber_link(visit, subscriber))
        span.quiet {
            (failures)
            @if let Some(since) = subscriber.breaker.failing_since { ", for " (text::duration(visit.now.since(since.0))) }
            " · " a href=(visit.link(&format!("deliveries?subscriber_id={}", subscriber.id))) { "deliveries" }
        }
    }
}

fn subscriber_link(visit: &Visit, subscriber: &SubscriberView) -> Markup {
    html! { a.url.clamp title=(subscriber.url) href=(visit.link(&format!("subscribers/{}", subscriber.id))) { @if let Some(uid) = &subscriber.uid { (uid) " · " } (subscriber.url) } }
}

fn charts(series: &SeriesView) -> Markup {
    let by_day = series.step_seconds >= 86_400;
    let written = |moment: Moment| {
        let text = text::moment(moment);
        if by_day {
            text.get(..10).unwrap_or_default().to_owned()
        } else {
            text.get(5..16).unwrap_or_default().to_owned()
        }
    };
    let steps: Vec<_> = series.points.iter().map(|point| (point.at.0.seconds(), written(point.at))).collect();
    let counts = |name: &str, tone, value: &dyn Fn(&SeriesPointView) -> u64| Line {
        name: name.to_owned(),
        tone,
        values: series.points.iter().map(|point| Some(count(value(point)))).collect(),
    };
    let percentile = |name: &str, tone, value: fn(&PercentilesView) -> Option<u64>| Line {
        name: name.to_owned(),
        tone,
        values: series.points.iter().map(|point| value(&point.attempts.duration_ms).map(count)).collect(),
    };
    let outcomes = [
        counts("succeeded", "good", &|point| point.attempts.succeeded),
        counts("failed", "bad", &|point| point.attempts.failed),
    ];
    let mut kinds: Vec<_> = series.total.failed_by_kind.iter().collect();
    kinds.sort_by_key(|(_, failed)| std::cmp::Reverse(**failed));
    let kinds: Vec<_> = kinds
        .into_iter()
        .take(6)
        .map(|(kind, _)| {
            counts(&text::words(kind), "", &|point| {
                point.attempts.failed_by_kind.get(kind).copied().unwrap_or(0)
            })
        })
        .collect();
    let latencies = [
        percentile("p50", "good", |percentiles| percentiles.p50),
        percentile("p95", "warn", |percentiles| percentiles.p95),
        percentile("p99", "bad", |percentiles| percentiles.p99),
    ];
    let chart = |title, unit, stacked, lines: &[Line], empty| {
        Chart { title, unit, stacked, steps: &steps, lines, empty }.show()
    };
    html! {
        h2 { "Attempts" }
        div.columns {
            (chart("Attempts by outcome", "", true, &outcomes, "There were no attempts in this time."))
            (chart("Failures by kind", "", true, &kinds, "No attempt failed in this time."))
            (chart("How long attempts take", "ms", false, &latencies, "There were no attempts in this time."))
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "for drawing")]
fn count(number: u64) -> f64 {
    number as f64
}

fn millis(percentile: Option<u64>) -> f64 {
    percentile.map_or(0.0, count)
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count(part) / count(of))
}

fn share_failed(point: &SeriesPointView) -> f64 {
    share(point.attempts.failed, point.attempts.attempts).unwrap_or(0.0)
}
