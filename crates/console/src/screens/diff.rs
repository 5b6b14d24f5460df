//! The difference between two attempts of a delivery.

use axum::extract::Path;
use axum::routing::get;
use http::StatusCode;
use maud::{Markup, html};
use postrider_api::attempt::{AttemptList, AttemptView, HeaderView};
use similar::{ChangeTag, TextDiff};

use super::Screen;
use crate::failure::{Failure, problem};
use crate::json;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/deliveries/{id}/diff", get(show))
}

/// How many bytes of each side are compared.
const LARGEST: usize = 64 * 1024;

/// How many pages of attempts are read to find two of them.
const PAGES: usize = 4;

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let number = |name: &str| visit.query.get(name).and_then(|number| number.parse::<u32>().ok());
    let (Some(from), Some(to)) = (number("from"), number("to")) else {
        let detail = "`from` and `to` must be numbers of attempts";
        return Err(Failure::new(&visit, problem(StatusCode::UNPROCESSABLE_ENTITY, detail)));
    };
    let (old, new) = find(&visit, &id, from, to).await?;
    let sides = [
        ("Summary", summary(&old), summary(&new)),
        ("Request", request(&old), request(&new)),
        ("Response", response(&old), response(&new)),
    ];
    let path = format!("deliveries/{}", segment(&id));
    let main = html! {
        p.crumbs { a href=(visit.link("deliveries")) { "Deliveries" } " › " a href=(visit.link(&path)) { (parts::short(&id)) } }
        (parts::head(&html! { "Attempt " (from) " and attempt " (to) }, &html! { a.button href=(visit.link(&format!("{path}/diff?from={to}&to={from}"))) { "Swap" } }))
        p.lead { "Lines with − are only in attempt " (from) ", lines with + only in attempt " (to) "." }
        @for (title, old, new) in &sides {
            h2 { (title) }
            (difference(title, old, new))
        }
    };
    Ok(visit.page("Difference of attempts", Section::Deliveries, main))
}

async fn find(visit: &Visit, id: &str, from: u32, to: u32) -> Result<(AttemptView, AttemptView), Failure> {
    let path = format!("/v1/deliveries/{}/attempts", segment(id));
    let (mut old, mut new) = (None, None);
    let mut query = Query::default().with("limit", 250);
    for _ in 0..PAGES {
        let list: AttemptList = visit.get(&path, &query).await?;
        for attempt in list.data {
            if attempt.number == from {
                old = Some(attempt.clone());
            }
            if attempt.number == to {
                new = Some(attempt);
            }
        }
        if let (Some(old), Some(new)) = (&old, &new) {
            return Ok((old.clone(), new.clone()));
        }
        let Some(cursor) = list.next_cursor else { break };
        query = query.with("cursor", cursor);
    }
    Err(Failure::missing(visit, "The delivery has no attempt of that number."))
}

fn difference(title: &str, old: &str, new: &str) -> Markup {
    if old == new {
        return html! { p.quiet { "No difference." } };
    }
    let (old, new) = (cut(old), cut(new));
    let diff = TextDiff::from_lines(old, new);
    html! {
        pre.diff tabindex="0" aria-label=(format!("{title}: difference")) {
            @for change in diff.iter_all_changes() {
                @let line = change.value().trim_end_matches('\n');
                @match change.tag() {
                    ChangeTag::Delete => { span.minus { "− " (line) } }
                    ChangeTag::Insert => { span.plus { "+ " (line) } }
                    ChangeTag::Equal => { span { "  " (line) } }
                }
            }
        }
    }
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(LARGEST);
    text.get(..end).unwrap_or(text)
}

fn summary(attempt: &AttemptView) -> String {
    let result = match (&attempt.error, &attempt.response) {
        (Some(error), _) => format!("failed: {} ({})", error.message, error.kind),
        (None, _) => "succeeded".to_owned(),
    };
    let address = attempt.remote_addr.as_deref().unwrap_or("none");
    format!(
        "started {} UTC\n{result}\naddress {address}\ntook {}\n",
        text::moment(attempt.started_at),
        text::millis(attempt.duration_ms)
    )
}

fn request(attempt: &AttemptView) -> String {
    let Some(request) = &attempt.request else { return "not kept\n".to_owned() };
    let version = request.transform_version.as_deref().unwrap_or("none");
    let (method, url, sha) = (&request.method, &request.url, &request.body_sha256);
    format!("{method} {url}\n{}\nbody SHA-256 {sha}\ntransform {version}\n", headers(&request.headers))
}

fn response(attempt: &AttemptView) -> String {
    let Some(response) = &attempt.response else { return "no response\n".to_owned() };
    let body = if response.body.len() <= LARGEST {
        json::pretty_if_json(&response.body)
    } else {
        response.body.clone()
    };
    format!("{}\n{}\n{body}\n", response.status, headers(&response.headers))
}

fn headers(headers: &[HeaderView]) -> String {
    headers.iter().fold(String::new(), |text, header| text + &header.name + ": " + &header.value + "\n")
}
