//! The live tail: what happens, as it happens.

use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use maud::html;
use postrider_core::DeliveryStatus;

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::parts;
use crate::visit::{Page, Visit};

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/tail", get(show)).route("/console/tail/stream", get(stream))
}

const FILTERS: [&str; 3] = ["types", "subscriber_id", "status"];

const CURL: &str = "curl -sN $POSTRIDER_URL/v1/tail -H \"Authorization: Bearer $POSTRIDER_KEY\"";

async fn show(visit: Visit) -> Page {
    let filters = visit.query.only(&FILTERS);
    let keep = visit.chosen.as_ref().map_or_else(String::new, |tenant| format!("?tenant={tenant}"));
    let main = html! {
        (parts::head(&html! { "Live tail" }, &html! {
            span.live role="status" data-state="off" { "Needs the script of this page" }
            button type="button" data-pause aria-pressed="false" hidden { "Pause" }
        }))
        form.filters role="search" aria-label="Filter the live tail" {
            (parts::field(&visit, "types", "Types", "order.*,user.created"))
            (parts::field(&visit, "subscriber_id", "Subscriber", "sub_… or uid"))
            (parts::choice(&visit, "status", "Status", DeliveryStatus::ALL.iter().map(|status| status.as_str())))
            @if let Some(tenant) = &visit.chosen { input type="hidden" name="tenant" value=(tenant); }
            button.primary { "Filter" }
            @if !filters.is_empty() { a.button.plain href=(visit.link("tail")) { "Clear" } }
        }
        div.scroll tabindex="0" role="region" aria-label="What happens" data-stream=(visit.link_with("tail/stream", &filters)) data-keep=(keep) {
            table.rows.tail-rows {
                caption.unseen { "What happens, newest first" }
                thead { tr {
                    th scope="col" { "Time (UTC)" } th scope="col" { "What" } th scope="col" { "Type" } th scope="col" { "Id" } th scope="col" { "Subscriber" } th scope="col" { "Result" }
                } }
                tbody {}
            }
        }
        div id="tail-empty" { (parts::empty("Waiting for something to happen", "Events appear here within a second, attempts and ends of deliveries as well. In a terminal:", Some(CURL))) }
    };
    visit.page("Live tail", Section::Tail, main)
}

async fn stream(visit: Visit) -> Result<Response, Failure> {
    let path = visit.query.only(&FILTERS).after("/v1/tail");
    let answer = visit.open(Method::GET, &path, Bytes::new()).await?;
    if !answer.status().is_success() {
        return Ok(answer.into_response());
    }
    let mut response = Response::new(answer.into_body());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
