//! The queue: what waits, for how long and why, and the workers.

use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use maud::{Markup, html};
use postrider_api::queue::{LaneList, LanePauseReason, LaneView, QueueStatusView, WorkerList, WorkerView};
use postrider_core::SubscriberId;
use postrider_core::key::Scope;

use super::Screen;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "queue";

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/queue", get(show))
        .route("/console/queue/pause", post(pause))
        .route("/console/queue/resume", post(resume))
}

async fn show(visit: Visit) -> Result<Page, Failure> {
    let none = Query::default();
    let lanes = visit.query.only(&["order", "limit", "cursor"]);
    let lanes: Option<LaneList> = visit.get_if_allowed("/v1/queue/lanes", &lanes).await?;
    let queue: Option<QueueStatusView> = visit.get_if_allowed("/v1/queue", &none).await?;
    let workers: Option<WorkerList> = visit.get_if_allowed("/v1/workers", &none).await?;
    if lanes.is_none() && queue.is_none() {
        // Fails with the scope that the key lacks.
        let _: LaneList = visit.get("/v1/queue/lanes", &none).await?;
    }
    let main = html! {
        (parts::head(&html! { "Queue" }, &html! {}))
        @if let Some(queue) = &queue { (numbers(queue)) }
        @if let Some(workers) = &workers { (worker_rows(&visit, &workers.data)) }
        @if let Some(lanes) = &lanes { (lane_rows(&visit, lanes)) }
    };
    Ok(visit.page("Queue", Section::Queue, main))
}

async fn pause(visit: Visit, form: Form) -> Result<Response, Failure> {
    set(&visit, &form, "pause", "paused").await
}

async fn resume(visit: Visit, form: Form) -> Result<Response, Failure> {
    set(&visit, &form, "resume", "resumed").await
}

async fn set(visit: &Visit, form: &Form, what: &str, notice: &str) -> Result<Response, Failure> {
    let subscriber: Option<SubscriberId> = form.fields.get("subscriber_id").and_then(|id| id.parse().ok());
    let Some(subscriber) = subscriber else {
        return Err(Failure::missing(visit, "There is no such subscriber."));
    };
    visit.act(Method::POST, &format!("/v1/subscribers/{subscriber}/{what}")).await?;
    Ok(visit.go_to(PATH, notice))
}

fn numbers(queue: &QueueStatusView) -> Markup {
    let counts = &queue.counts;
    let wait = queue.longest_wait_seconds.map(text::seconds);
    let numbers = [
        ("Ready", text::count(counts.ready), "may be claimed now"),
        ("Scheduled", text::count(counts.scheduled), "due later, such as retries"),
        ("Held", text::count(counts.held), "in paused lanes"),
        ("Leased", text::count(counts.running), "claimed by a worker"),
        ("Longest wait", wait.unwrap_or_else(|| "none".to_owned()), "of a job that only lacks a worker"),
    ];
    html! {
        div.numbers.five { @for (name, value, hint) in numbers { (parts::number(name, &html! { (value) }, &html! { (hint) })) } }
    }
}

fn worker_rows(visit: &Visit, workers: &[WorkerView]) -> Markup {
    let columns = [
        ("Worker", ""),
        ("State", ""),
        ("Host", "wide"),
        ("Version", ""),
        ("Leases", "num"),
        ("Started", ""),
        ("Last seen", ""),
    ];
    let rows = workers.iter().map(|worker| Row {
        id: Some(worker.id.clone()),
        cells: vec![
            html! { code title=(worker.id) { (worker.id.get(worker.id.len().saturating_sub(12)..).unwrap_or(&worker.id)) } },
            if worker.silent { parts::badge("!", "bad", "silent") } else { parts::badge("✓", "good", "running") },
            html! { span.cut { (worker.host) } },
            html! { (worker.version) },
            html! { (text::count(worker.in_flight.into())) },
            parts::ago(worker.since, visit.now),
            parts::ago(worker.last_seen_at, visit.now),
        ],
    });
    html! {
        section {
            h2 { "Workers" }
            @if workers.is_empty() {
                (parts::empty(
                    "No worker runs",
                    "Events are accepted and wait in the queue until a worker delivers them. Start one:",
                    Some("postrider-worker --database-url \"$POSTRIDER_DATABASE_URL\""),
                ))
            } @else { (table("Workers", &columns, rows)) }
        }
    }
}

fn lane_rows(visit: &Visit, lanes: &LaneList) -> Markup {
    let by_age = visit.query.get("order") == Some("age");
    let columns = [
        ("Subscriber", "wide"),
        ("Waiting", "num"),
        ("Oldest", "num"),
        ("Later", "num"),
        ("Leases", "num"),
        ("Limits", ""),
        ("State", ""),
        ("", "act"),
    ];
    let rows = lanes.data.iter().map(|lane| lane_row(visit, lane));
    let order = |order: &str| visit.link_with(PATH, &Query::default().with("order", order));
    html! {
        section {
            div.head {
                h2 { "Lanes in which deliveries wait" }
                nav.tabs aria-label="Order" {
                    a href=(order("depth")) aria-current=[(!by_age).then_some("true")] { "Deepest first" }
                    a href=(order("age")) aria-current=[by_age.then_some("true")] { "Oldest first" }
                }
            }
            @if lanes.data.is_empty() {
                (parts::empty(
                    "Nothing waits",
                    "Each subscriber has a lane of its own. Lanes appear here while deliveries wait in them.",
                    None,
                ))
            } @else {
                (table("Lanes", &columns, rows))
                (parts::pages(visit, PATH, lanes.next_cursor.as_deref()))
            }
        }
    }
}

fn lane_row(visit: &Visit, lane: &LaneView) -> Row {
    let more = if lane.more { "+" } else { "" };
    let is_paused = lane.pause.is_some_and(|pause| pause.reason == LanePauseReason::Subscriber);
    let id = lane.subscriber_id.to_string();
    // The lanes of all tenants are in one list, and a link must say whose subscriber it means.
    let own = visit.session.tenant.is_some() || visit.chosen.is_some();
    let link = if own {
        visit.link(&format!("subscribers/{id}"))
    } else {
        visit.link(&format!("subscribers/{id}?tenant={}", lane.tenant))
    };
    Row {
        id: Some(id.clone()),
        cells: vec![
            html! { a.id href=(link) title=(id) { (parts::short(&id)) } @if !own { " " span.quiet { (lane.tenant) } } },
            html! { (text::count(lane.depth)) (more) },
            html! { (text::seconds(lane.oldest_seconds)) },
            html! { (text::count(lane.scheduled)) (more) },
            html! { (text::count(lane.running)) },
            limits(lane),
            state(visit, lane),
            html! {
                @if visit.may(Scope::SubscribersWrite) && own {
                    form.inline method="post" action=(visit.link(if is_paused { "queue/resume" } else { "queue/pause" })) {
                        input type="hidden" name="subscriber_id" value=(id);
                        button.small { (if is_paused { "Resume" } else { "Pause" }) span.unseen { " " (id) } }
                    }
                }
            },
        ],
    }
}

fn limits(lane: &LaneView) -> Markup {
    let mut limits = Vec::new();
    if lane.ordered {
        limits.push("in order".to_owned());
    }
    if let Some(concurrency) = lane.concurrency {
        limits.push(format!("{concurrency} at once"));
    }
    if let Some(rate) = lane.rate_limit {
        limits.push(format!("{}/s", rate.per_second));
    }
    html! { @if limits.is_empty() { (parts::none()) } @else { (limits.join(", ")) } }
}

fn state(visit: &Visit, lane: &LaneView) -> Markup {
    let Some(pause) = lane.pause else { return parts::badge("▸", "good", "flowing") };
    let (shape, tone, word) = match pause.reason {
        LanePauseReason::Inactive => ("–", "off", "inactive"),
        LanePauseReason::Subscriber => ("‖", "warn", "paused"),
        LanePauseReason::Tenant => ("‖", "off", "tenant not active"),
        LanePauseReason::Breaker => ("!", "bad", "breaker open"),
        LanePauseReason::Probing => ("◔", "warn", "probing"),
        LanePauseReason::Retry => ("◔", "wait", "awaits a retry"),
    };
    html! { (parts::badge(shape, tone, word)) @if let Some(until) = pause.until { " " span.quiet { (parts::ago(until, visit.now)) } } }
}
