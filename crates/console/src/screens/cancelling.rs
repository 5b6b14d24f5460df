//! Cancelling every pending delivery that a filter matches: a dry run counts them, and a form confirms the count.

use axum::response::Response;
use axum::routing::get;
use http::Method;
use maud::{Markup, html};
use postrider_api::Moment;
use postrider_api::replay::{ReplayEstimateView, ReplayView};
use postrider_core::Timestamp;
use serde_json::json;

use super::Screen;
use super::deliveries::FILTERS;
use super::replay::filter;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "deliveries/cancel";
const API: &str = "/v1/deliveries/cancel";

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/deliveries/cancel", get(ask).post(start))
}

async fn ask(visit: Visit) -> Result<Page, Failure> {
    // What is dispatched while somebody reads the page does not belong to what they confirm.
    let until = Moment(Timestamp::from_millis(visit.now.millis())).to_string();
    let filters = visit.query.only(&FILTERS);
    let back = filters.after("deliveries");
    let filters = if filters.get("until").is_some() { filters } else { filters.with("until", until) };
    let request = json!({"filter": filter(&visit, &filters)?, "dry_run": true});
    let estimate: ReplayEstimateView = visit.send(Method::POST, API, &request).await?;
    let main = html! {
        p.crumbs { a href=(visit.link("deliveries")) { "Deliveries" } }
        (parts::head(&html! { "Cancel everything that matches?" }, &html! {}))
        @if estimate.total == 0 {
            (parts::empty("Nothing matches", "Only pending deliveries can be cancelled. Change the filter.", None))
            p { a.button href=(visit.link(&back)) { "Back" } }
        } @else {
            @let count = text::counted(estimate.total, "delivery", "deliveries");
            @let count = if estimate.complete { count } else { format!("at least {count}") };
            (parts::confirm(&visit, &what(&visit, &estimate, &count, &filters), PATH, &filters, &format!("Cancel {count}"), &back))
            (by_subscriber(&visit, &estimate))
        }
    };
    Ok(visit.page("Cancel deliveries", Section::Deliveries, main))
}

fn what(visit: &Visit, estimate: &ReplayEstimateView, count: &str, filters: &Query) -> Markup {
    let span = |moment: Option<Moment>| html! { @if let Some(moment) = moment { (parts::at(moment, visit.now)) } @else { (parts::none()) } };
    html! {
        p { strong { (count) } " to " (text::counted(estimate.subscribers, "subscriber", "subscribers")) " will not be sent. A replay can deliver them later." }
        (parts::facts(&[
            ("Oldest event", span(estimate.oldest)),
            ("Newest event", span(estimate.newest)),
            ("Filter", html! { @for (name, value) in filters.pairs() { code { (name) "=" (value) } " " } }),
        ]))
        p.quiet {
            "The set is frozen when you confirm: what is dispatched later does not join it, and what is delivered before its turn stays \
             delivered. Requests in flight still finish."
        }
    }
}

fn by_subscriber(visit: &Visit, estimate: &ReplayEstimateView) -> Markup {
    const SHOWN: usize = 100;
    let rows = estimate.by_subscriber.iter().take(SHOWN).map(|row| Row {
        id: None,
        cells: vec![parts::id(visit, "subscribers", row.subscriber_id), html! { (text::count(row.total)) }],
    });
    html! {
        h2 { "By subscriber" }
        (table("What would be cancelled of each subscriber", &[("Subscriber", "wide"), ("Deliveries", "num")], rows))
        @if estimate.by_subscriber.len() > SHOWN { p.quiet { "Only the 100 subscribers with the most deliveries are shown." } }
    }
}

async fn start(visit: Visit, form: Form) -> Result<Response, Failure> {
    let request = json!({"filter": filter(&visit, &form.fields.only(&FILTERS))?, "dry_run": false});
    let job: ReplayView = visit.send(Method::POST, API, &request).await?;
    Ok(visit.go_to(&format!("replays/{}", job.id), "cancelling"))
}
