//! Requeueing and deleting the dead letters that a filter matches.

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Moment;
use postrider_api::dead_letter::RequeuedView;
use serde_json::json;

use super::groups::newest;
use super::{API, FILTERS, PATH, as_replay};
use crate::failure::{Failure, problem};
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

/// How many dead letters one click covers. A replay has no such limit.
const MOST: u64 = 1_000;

pub(super) async fn ask_requeue(visit: Visit) -> Result<Page, Failure> {
    ask(&visit, "Requeue", "They become pending at once, and a new round of attempts begins.").await
}

pub(super) async fn ask_delete(visit: Visit) -> Result<Page, Failure> {
    ask(
        &visit,
        "Delete",
        "Their attempts are deleted with them. This cannot be undone; statistics still count them.",
    )
    .await
}

pub(super) async fn requeue(visit: Visit, form: Form) -> Result<Response, Failure> {
    let ids = chosen(&visit, &form.fields).await?;
    let _: RequeuedView = visit.send(Method::POST, "/v1/dead-letters/requeue", &json!({"ids": ids})).await?;
    Ok(visit.go_to(PATH, "requeued"))
}

pub(super) async fn delete(visit: Visit, form: Form) -> Result<Response, Failure> {
    for id in chosen(&visit, &form.fields).await? {
        match visit.act(Method::DELETE, &format!("{API}/{id}")).await {
            // Somebody else has deleted or requeued it since.
            Err(failure) if matches!(failure.status(), 404 | 409) => {}
            other => other?,
        }
    }
    Ok(visit.go_to(PATH, "deleted"))
}

/// The page that says how many there are and asks. What dies later is not included.
async fn ask(visit: &Visit, verb: &str, effect: &str) -> Result<Page, Failure> {
    let mut filter = visit.query.only(&FILTERS);
    if filter.get("until").is_none() {
        filter = filter.with("until", Moment(visit.now));
    }
    let (found, more) = newest(visit, &filter, MOST).await?;
    let count = found.len() as u64;
    let counted = text::counted(count, "dead letter", "dead letters");
    let title = format!("{verb} {counted}");
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Dead letters")]))
        (parts::head(&html! { (title) "?" }, &html! {}))
        @if count == 0 {
            (parts::empty("Nothing matches", "No dead letter matches this filter any more.", None))
        } @else {
            @let what = what(visit, &filter, &counted, more, effect);
            (parts::confirm(
                visit, &what, &format!("{PATH}/{}", verb.to_lowercase()), &filter.with("count", count), &title, PATH,
            ))
        }
    };
    Ok(visit.page(&title, Section::DeadLetters, main))
}

fn what(visit: &Visit, filter: &Query, counted: &str, more: bool, effect: &str) -> Markup {
    html! {
        @if more {
            p {
                "This covers the newest " (counted) ". There are more: repeat it, or "
                a href=(visit.link_with("deliveries/replay", &as_replay(filter))) { "start a replay" }
                ", which covers all of them."
            }
        } @else {
            p { "This covers exactly " strong { (counted) } ": those that match now, and none that dies later." }
        }
        dl.facts { @for (name, value) in filter.pairs() { div { dt { (text::words(name)) } dd { code { (value) } } } } }
        p { (effect) }
    }
}

/// The dead letters that the confirmed page has counted.
async fn chosen(visit: &Visit, fields: &Query) -> Result<Vec<String>, Failure> {
    let filter = fields.only(&FILTERS);
    // Without it, what died after the page was shown would be included.
    if filter.get("until").is_none() {
        let detail = "the form lacks the moment of its count; open the page again";
        return Err(Failure::new(visit, problem(StatusCode::BAD_REQUEST, detail)));
    }
    let most = fields.get("count").and_then(|count| count.parse().ok()).unwrap_or(MOST).min(MOST);
    let (found, _) = newest(visit, &filter, MOST).await?;
    Ok(found
        .iter()
        .take(usize::try_from(most).unwrap_or_default())
        .map(|delivery| delivery.id.to_string())
        .collect())
}
