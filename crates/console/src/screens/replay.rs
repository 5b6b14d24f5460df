//! Replaying everything that a filter matches: a dry run counts it, and a form confirms the count.

use std::time::Duration;

use axum::response::Response;
use axum::routing::get;
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Moment;
use postrider_api::replay::{ReplayEstimateView, ReplayView};
use postrider_core::Timestamp;
use postrider_core::replay::ReplayMode;
use serde_json::{Map, Value, json};

use super::Screen;
use super::deliveries::FILTERS;
use crate::failure::{Failure, problem};
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/deliveries/replay", get(ask).post(start))
}

async fn ask(visit: Visit) -> Result<Page, Failure> {
    let mode = mode(&visit, &visit.query)?;
    // What is dispatched while somebody reads the page does not belong to what they confirm.
    let until = Moment(Timestamp::from_millis(visit.now.millis())).to_string();
    let filters = visit.query.only(&FILTERS);
    let filters = if filters.get("until").is_some() { filters } else { filters.with("until", until) };
    let request = request(&visit, &filters, mode, true)?;
    let estimate: ReplayEstimateView = visit.send(Method::POST, "/v1/replays", &request).await?;
    let back = visit.query.only(&FILTERS).after("deliveries");
    let main = html! {
        p.crumbs { a href=(visit.link("deliveries")) { "Deliveries" } }
        (parts::head(&html! { "Replay" }, &html! {}))
        (modes(&visit, mode))
        @if estimate.total == 0 {
            (parts::empty("Nothing matches", "Only deliveries that have ended are replayed, those of the chosen kind. Change the filter or the kind.", None))
            p { a.button href=(visit.link(&back)) { "Back" } }
        } @else {
            @let count = text::counted(estimate.total, "delivery", "deliveries");
            @let count = if estimate.complete { count } else { format!("at least {count}") };
            @let fields = filters.with("mode", mode.as_str());
            (parts::confirm_harmless(&visit, &what(&visit, &estimate, &count, &filters), "deliveries/replay", &fields, &format!("Replay {count}"), &back))
            (by_subscriber(&visit, &estimate))
        }
    };
    Ok(visit.page("Replay", Section::Deliveries, main))
}

/// Links to the same page for each kind of replay.
fn modes(visit: &Visit, chosen: ReplayMode) -> Markup {
    const MODES: [(ReplayMode, &str); 3] = [
        (ReplayMode::Dead, "Dead letters"),
        (ReplayMode::All, "All that have ended"),
        (ReplayMode::Missed, "Missed"),
    ];
    let detail = match chosen {
        ReplayMode::Dead => "Dead letters that match the filter.",
        ReplayMode::All => "Every delivery that has ended and matches the filter, also those that succeeded.",
        ReplayMode::Missed => {
            "Events that a subscriber matches now and has no delivery of, because it was created or activated later."
        }
        ReplayMode::Cancel => "Pending deliveries that match the filter.",
    };
    html! {
        div.row {
            @for (mode, about) in MODES {
                a.button.plain[mode != chosen] aria-current=[(mode == chosen).then_some("true")]
                    href=(visit.link_with("deliveries/replay", &visit.query.with("mode", mode.as_str()))) { (about) }
            }
        }
        p.lead { (detail) }
    }
}

fn what(visit: &Visit, estimate: &ReplayEstimateView, count: &str, filters: &Query) -> Markup {
    let span = |moment: Option<Moment>| html! { @if let Some(moment) = moment { (parts::at(moment, visit.now)) } @else { (parts::none()) } };
    let takes = if estimate.seconds == 0 {
        "no rate limit holds it back".to_owned()
    } else {
        format!("{} at least, under the rate limits", text::duration(Duration::from_secs(estimate.seconds)))
    };
    html! {
        p { strong { (count) } " to " (text::counted(estimate.subscribers, "subscriber", "subscribers")) " will be sent again." }
        (parts::facts(&[
            ("Succeeded before", html! { (text::count(estimate.succeeded)) @if estimate.succeeded > 0 { " " span.quiet { "(these arrive twice)" } } }),
            ("Takes", html! { (takes) }),
            ("Oldest event", span(estimate.oldest)),
            ("Newest event", span(estimate.newest)),
            ("Filter", html! { @for (name, value) in filters.pairs() { code { (name) "=" (value) } " " } }),
        ]))
        p.quiet { "The set is frozen when the replay begins: what ends or is dispatched later does not join it. You can pause or cancel it." }
    }
}

fn by_subscriber(visit: &Visit, estimate: &ReplayEstimateView) -> Markup {
    html! {
        h2 { "By subscriber" }
        div.scroll tabindex="0" role="region" aria-label="By subscriber" {
            table {
                caption.unseen { "What would be sent to each subscriber" }
                thead { tr { th scope="col" { "Subscriber" } th.num scope="col" { "Deliveries" } th.num scope="col" { "Succeeded before" } th scope="col" { "Takes" } } }
                tbody {
                    @for row in estimate.by_subscriber.iter().take(100) {
                        tr {
                            td { (parts::id(visit, "subscribers", row.subscriber_id)) }
                            td.num { (text::count(row.total)) }
                            td.num { (text::count(row.succeeded)) }
                            td { @if let Some(seconds) = row.seconds { (text::duration(Duration::from_secs(seconds))) } @else { span.quiet { "no rate limit" } } }
                        }
                    }
                }
            }
        }
        @if estimate.by_subscriber.len() > 100 { p.quiet { "Only the 100 subscribers with the most deliveries are shown." } }
    }
}

async fn start(visit: Visit, form: Form) -> Result<Response, Failure> {
    let mode = mode(&visit, &form.fields)?;
    let request = request(&visit, &form.fields.only(&FILTERS), mode, false)?;
    let replay: ReplayView = visit.send(Method::POST, "/v1/replays", &request).await?;
    Ok(visit.go_to(&format!("replays/{}", replay.id), "replaying"))
}

fn mode(visit: &Visit, query: &Query) -> Result<ReplayMode, Failure> {
    let given = query.get("mode").unwrap_or("dead");
    given.parse().map_err(|error| {
        Failure::new(visit, problem(StatusCode::UNPROCESSABLE_ENTITY, format!("mode: {error}")))
    })
}

/// The request for these filters.
fn request(visit: &Visit, filters: &Query, mode: ReplayMode, dry_run: bool) -> Result<Value, Failure> {
    // The mode says so already.
    let is_said = mode == ReplayMode::Dead && filters.get("status") == Some("dead");
    let filter = if is_said { filter(visit, &filters.without("status"))? } else { filter(visit, filters)? };
    Ok(json!({"filter": filter, "mode": mode.as_str(), "dry_run": dry_run}))
}

/// The filter of a request, with numbers where the query string has text.
pub(super) fn filter(visit: &Visit, filters: &Query) -> Result<Map<String, Value>, Failure> {
    let mut filter = Map::new();
    for (name, value) in filters.pairs() {
        let value = if name.ends_with("_attempts") {
            let wrong = |_| {
                Failure::new(
                    visit,
                    problem(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: must be a number")),
                )
            };
            Value::from(value.parse::<u32>().map_err(wrong)?)
        } else {
            Value::from(value)
        };
        filter.insert(name.to_owned(), value);
    }
    Ok(filter)
}
