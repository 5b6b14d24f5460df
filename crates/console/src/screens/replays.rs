//! Replays: their list, one with its progress, and starting one with its set counted and confirmed. What cancels deliveries
//! is one of them.

use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use maud::{Markup, html};
use postrider_api::replay::{ReplayFilter, ReplayList, ReplayView};
use postrider_core::key::Scope;
use postrider_core::replay::{ReplayMode, ReplayStatus};
use postrider_core::{ErrorKind, ReplayId};

use super::Screen;
use crate::controls::Control;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "replays";
const API: &str = "/v1/replays";

const CURL: &str = "curl -s $POSTRIDER_URL/v1/replays -H \"Authorization: Bearer $POSTRIDER_KEY\" \\\n  -H 'Content-Type: application/json' -d '{\"filter\":{\"event\":\"order.*\"},\"mode\":\"dead\",\"dry_run\":true}'";

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/replays", get(list))
        .route("/console/replays/new", get(form))
        .route("/console/replays/{id}", get(show))
        .route("/console/replays/{id}/pause", post(pause))
        .route("/console/replays/{id}/resume", post(resume))
        .route("/console/replays/{id}/cancel", get(ask_cancel).post(cancel))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: ReplayList = visit.get(API, &visit.query).await?;
    let columns = [
        ("Replay", ""),
        ("Status", ""),
        ("What", "wide"),
        ("Progress", ""),
        ("Failed", "num"),
        ("Started", ""),
    ];
    let rows = page.data.iter().map(|replay| Row {
        id: Some(replay.id.to_string()),
        cells: vec![
            parts::id(&visit, PATH, replay.id),
            status(replay.status),
            html! { (replay.mode) " " span.quiet.cut { (written(&replay.filter)) } },
            progress(replay),
            html! { (text::count(replay.failed)) },
            parts::ago(replay.created_at, visit.now),
        ],
    });
    let main = html! {
        (parts::head(&html! { "Replays" }, &html! {
            @if visit.may(Scope::ReplaysWrite) { a.button.primary href=(visit.link("replays/new")) data-key="r" { "New replay…" } }
        }))
        p.lead { "A replay delivers again, or cancels, everything that matched a filter when it was started." }
        @if page.data.is_empty() {
            (parts::empty(
                "No replay yet",
                "After an outage, a replay delivers dead letters again, or events that a subscriber has missed. Count first, \
                 then start:",
                Some(CURL),
            ))
        } @else {
            (table("Replays", &columns, rows))
            (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Replays", Section::Replays, main))
}

/// A filter. The page to which it leads counts what matches, and asks.
async fn form(visit: Visit) -> Page {
    let modes = [
        ("dead", "dead letters"),
        ("all", "all deliveries that have ended"),
        ("missed", "events that subscribers match now and never got"),
    ];
    let mode = Control {
        name: "mode",
        label: "Deliver again",
        value: visit.query.get("mode").unwrap_or("dead"),
        ..Control::default()
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Replays")]))
        (parts::head(&html! { "New replay" }, &html! {}))
        p.lead { "Choose what to deliver again. The next page counts it, and nothing is sent before you confirm." }
        form.stack.panel action=(visit.link("deliveries/replay")) {
            (mode.choice(modes.into_iter()))
            div.pair {
                (parts::field(&visit, "event", "Event type", "order.*"))
                (parts::field(&visit, "subscriber_id", "Subscriber", "sub_… or uid"))
                (parts::field(&visit, "since", "Dispatched since", "2026-11-28T18:00:00Z"))
                (parts::field(&visit, "until", "Dispatched before", "now"))
                (parts::field(&visit, "response_code", "Last response", "503 or 5xx"))
                (parts::choice(&visit, "error_kind", "Failure", ErrorKind::ALL.iter().map(|kind| kind.as_str())))
            }
            (parts::hidden(&visit, &Query::default()))
            div.row { button.primary { "Count" } a.button.plain href=(visit.link(PATH)) { "Back" } }
        }
    };
    visit.page("New replay", Section::Replays, main)
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let replay = read(&visit, &id).await?;
    let may = visit.may(Scope::ReplaysWrite);
    let path = format!("{PATH}/{}", replay.id);
    let (title, done, passed_over) = match replay.mode {
        ReplayMode::Cancel => ("Cancellation", "Cancelled", "Not cancelled"),
        _ => ("Replay", "Made pending", "Not delivered"),
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Replays")]))
        (parts::head(&html! { span { (title) " of " (text::counted(replay.total, "delivery", "deliveries")) } (status(replay.status)) }, &html! {
            @if may && matches!(replay.status, ReplayStatus::Collecting | ReplayStatus::Running) {
                (parts::action(&visit, &format!("{path}/pause"), "Pause", None))
            }
            @if may && replay.status == ReplayStatus::Paused {
                (parts::action(&visit, &format!("{path}/resume"), "Resume", None))
            }
            @if may && !replay.status.is_final() {
                a.button.plain href=(visit.link(&format!("{path}/cancel"))) data-key="x" { "Cancel…" }
            }
        }))
        div.panel {
            (progress(&replay))
            @if replay.truncated { p { "More matched than the 1,000,000 oldest, which are this replay’s set." } }
        }
        div.panel { (parts::facts(&[
            ("Id", parts::copied(&replay.id.to_string())),
            ("Mode", html! { (replay.mode) }),
            ("Filter", filter(&replay.filter)),
            ("Set", html! { (text::count(replay.total)) " " @if replay.frozen { "(frozen)" } @else { "(being collected)" } }),
            (done, html! { (text::count(replay.done)) }),
            ("Failed", html! { (text::count(replay.failed)) }),
            ("Started", parts::at(replay.created_at, visit.now)),
            ("Ended", html! { @if let Some(at) = replay.ended_at { (parts::at(at, visit.now)) } @else { (parts::none()) } }),
        ])) }
        @if !replay.failures.is_empty() {
            section {
                h2 { (passed_over) }
                (table("Why parts of the set were passed over", &[("Reason", "wide"), ("Count", "num")],
                    replay.failures.iter().map(|failure| Row {
                        id: None,
                        cells: vec![html! { (text::words(failure.reason.as_str())) }, html! { (text::count(failure.count)) }],
                    })))
            }
        }
    };
    Ok(visit.page("Replay", Section::Replays, main))
}

async fn pause(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "pause", "paused").await
}

async fn resume(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "resume", "resumed").await
}

async fn ask_cancel(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let replay = read(&visit, &id).await?;
    let noun = if replay.mode == ReplayMode::Cancel { "cancellation" } else { "replay" };
    let left = replay.total.saturating_sub(replay.done + replay.failed);
    let path = format!("{PATH}/{}", replay.id);
    let what = html! {
        p { strong { (text::count(left)) } " of " (text::count(replay.total)) " are left. They stay as they are." }
        @if replay.mode == ReplayMode::Cancel { p { "What is cancelled already stays cancelled." } }
        @else { p { "What the replay has already made pending is delivered." } }
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Replays"), (&path, "Replay")]))
        (parts::head(&html! { "Cancel this " (noun) "?" }, &html! {}))
        (parts::confirm(&visit, &what, &format!("{path}/cancel"), &Query::default(), &format!("Cancel the {noun}"), &path))
    };
    Ok(visit.page("Cancel a replay", Section::Replays, main))
}

async fn cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "cancel", "stopped").await
}

async fn act(visit: &Visit, id: &str, what: &str, notice: &str) -> Result<Response, Failure> {
    let id = parsed(visit, id)?;
    visit.act(Method::POST, &format!("{API}/{id}/{what}")).await?;
    Ok(visit.go_to(&format!("{PATH}/{id}"), notice))
}

async fn read(visit: &Visit, id: &str) -> Result<ReplayView, Failure> {
    let id = parsed(visit, id)?;
    visit.get(&format!("{API}/{id}"), &Query::default()).await
}

fn parsed(visit: &Visit, id: &str) -> Result<ReplayId, Failure> {
    id.parse().map_err(|_| Failure::missing(visit, "There is no such replay."))
}

fn status(status: ReplayStatus) -> Markup {
    let (shape, tone) = match status {
        ReplayStatus::Collecting => ("◔", "wait"),
        ReplayStatus::Running => ("▸", "wait"),
        ReplayStatus::Paused => ("‖", "warn"),
        ReplayStatus::Done => ("✓", "good"),
        ReplayStatus::Cancelled => ("–", "off"),
    };
    parts::badge(shape, tone, status.as_str())
}

fn progress(replay: &ReplayView) -> Markup {
    let processed = replay.done + replay.failed;
    html! {
        span.progress {
            progress max=(replay.total.max(1)) value=(processed) aria-label="Progress" {}
            " " (text::count(processed)) " of " (text::count(replay.total)) @if !replay.frozen { "+" }
        }
    }
}

/// A filter as pairs of names and values.
fn pairs(filter: &ReplayFilter) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(filter) else { return Vec::new() };
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn written(filter: &ReplayFilter) -> String {
    let pairs: Vec<String> =
        pairs(filter).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { "everything".to_owned() } else { pairs.join(" ") }
}

fn filter(filter: &ReplayFilter) -> Markup {
    html! { code { (written(filter)) } }
}
