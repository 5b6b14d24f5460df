//! A delivery as a command of curl: signed again by the server, or as the last attempt sent it.

use axum::extract::Path;
use axum::routing::get;
use http::Method;
use maud::html;
use postrider_api::attempt::{AttemptList, HeaderView};
use postrider_api::delivery::DeliveryView;
use postrider_api::event::EventDetail;
use postrider_api::simulate::{SimulateRequest, SimulationList};

use super::Screen;
use super::envelope::envelope;
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/deliveries/{id}/curl", get(show))
}

/// The largest body that a command holds.
const LARGEST: usize = 100 * 1024;

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let none = Query::default();
    let delivery: DeliveryView = visit.get(&format!("/v1/deliveries/{}", segment(&id)), &none).await?;
    let attempts: AttemptList =
        visit.get(&format!("/v1/deliveries/{}/attempts", delivery.id), &none.with("limit", 1)).await?;
    let event: Option<EventDetail> =
        visit.get_if_allowed(&format!("/v1/events/{}", delivery.event_id), &none).await?;
    let body = event.filter(|event| event.payload.is_none()).map(|event| envelope(&event));
    let sent = attempts.data.first().and_then(|attempt| attempt.request.as_ref());
    // The body is the envelope only if nothing has made another one of it.
    let sent = sent
        .map(|request| (command(&request.method, &request.url, &request.headers, body.as_deref()), request));
    let simulated = simulated(&visit, &delivery).await;
    let path = format!("deliveries/{}", delivery.id);
    let main = html! {
        p.crumbs { a href=(visit.link("deliveries")) { "Deliveries" } " › " a href=(visit.link(&path)) { (parts::short(&delivery.id.to_string())) } }
        (parts::head(&html! { "As curl" }, &html! {}))
        h2 { "Signed again, with the subscriber as it is now" }
        @match &simulated {
            Ok(command) => { (sample(command)) p.quiet { "Signatures are masked without the scope " code { "secrets:read" } ". The subscriber’s own headers, its auth and the values in its URL’s query are always masked." } }
            Err(failure) => { p.quiet { (failure.problem().detail) } }
        }
        h2 { "As the last attempt sent it" }
        @match &sent {
            Some((command, request)) => {
                (sample(command))
                p.quiet {
                    "Secrets are masked as they were stored."
                    @if request.transform_version.is_some() { " A transform made another body of the envelope; its SHA-256 was " code { (request.body_sha256) } "." }
                    @if body.is_none() { " The body is not available." }
                }
            }
            None => { p.quiet { "No attempt has sent a request yet, or it is not kept." } }
        }
    };
    Ok(visit.page("As curl", Section::Deliveries, main))
}

async fn simulated(visit: &Visit, delivery: &DeliveryView) -> Result<String, Failure> {
    let request = SimulateRequest {
        event_id: Some(delivery.event_id.to_string()),
        subscriber_id: Some(delivery.subscriber_id.to_string()),
        ..SimulateRequest::default()
    };
    let simulations: SimulationList = visit.send(Method::POST, "/v1/simulate", &request).await?;
    let request = simulations.data.into_iter().next().and_then(|simulation| simulation.request);
    let request = request
        .ok_or_else(|| Failure::missing(visit, "The transform of the subscriber fails on this event."))?;
    Ok(command(&request.method, &request.url, &request.headers, Some(&request.body)))
}

fn sample(command: &str) -> maud::Markup {
    html! { div.sample { pre.wrap tabindex="0" { (command) } button.copy type="button" data-copy="" data-key="c" hidden { "Copy" } } }
}

fn command(method: &str, url: &str, headers: &[HeaderView], body: Option<&str>) -> String {
    let mut command = format!("curl -sS -X {} {}", quoted(method), quoted(url));
    for header in headers.iter().filter(|header| header.name != "content-encoding") {
        command.push_str(" \\\n  -H ");
        command.push_str(&quoted(&format!("{}: {}", header.name, header.value)));
    }
    if let Some(body) = body.filter(|body| body.len() <= LARGEST) {
        command.push_str(" \\\n  --data-binary ");
        command.push_str(&quoted(body));
    }
    command
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_word_for_each_text() {
        let header = HeaderView { name: "x-note".into(), value: "it's $(rm)".into() };
        let command = command("POST", "https://example.com/?a=b&c", &[header], Some("{\"a\":\"'\"}"));
        let expected = "curl -sS -X 'POST' 'https://example.com/?a=b&c' \\\n  -H 'x-note: it'\\''s $(rm)' \\\n  --data-binary '{\"a\":\"'\\''\"}'";
        assert_eq!(command, expected);
    }
}
