//! One delivery, and what the endpoint answered each time.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::future::join;
use http::Method;
use maud::html;
use postrider_api::attempt::AttemptList;
use postrider_api::delivery::DeliveryView;
use postrider_core::DeliveryStatus;
use postrider_core::key::Scope;

use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::screens::exchange;
use crate::text;
use crate::visit::{Console, Page, Visit};

pub(super) fn routes(router: Router<Console>) -> Router<Console> {
    router.route("/portal/deliveries/{id}", get(show)).route("/portal/deliveries/{id}/retry", post(retry))
}

fn path(id: &str) -> String {
    format!("/v1/deliveries/{}", segment(id))
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let page = visit.query.only(&["cursor"]).with("limit", 20);
    let (none, attempts_path, path) = (Query::default(), format!("{}/attempts", path(&id)), path(&id));
    let (delivery, attempts) =
        join(visit.get::<DeliveryView>(&path, &none), visit.get::<AttemptList>(&attempts_path, &page)).await;
    let (delivery, attempts) = (delivery?, attempts?);
    let can_retry = visit.may(Scope::DeliveriesRetry) && delivery.status != DeliveryStatus::Pending;
    let endpoint = format!("endpoints/{}", delivery.subscriber_id);
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } " / " a href=(visit.link(&endpoint)) { "Deliveries" } }
        (parts::head(
            &html! { span { (delivery.event_type) } (parts::status(delivery.status)) },
            &html! { @if can_retry { (parts::action(&visit, &format!("deliveries/{}/retry", delivery.id), "Send again", Some("r"))) } },
        ))
        div.panel {
            (parts::facts(&[
                ("Event (webhook-id)", parts::copied(&delivery.event_id.to_string())),
                ("Created", parts::at(delivery.created_at, visit.now)),
                ("Next attempt", parts::maybe_ago(delivery.next_attempt_at, visit.now)),
                (
                    "Given up because",
                    html! { @if let Some(reason) = delivery.dead_reason { (text::words(reason.as_str())) } @else { (parts::none()) } },
                ),
            ]))
        }
        h2 { "Attempts" }
        @if attempts.data.is_empty() { p.quiet { "No attempt yet." } }
        ol.timeline {
            @for attempt in &attempts.data {
                li.(if attempt.error.is_some() { "bad" } else { "good" }) { div.panel { (exchange::attempt(attempt, visit.now)) } }
            }
        }
        (parts::pages(&visit, &format!("deliveries/{}", delivery.id), attempts.next_cursor.as_deref()))
    };
    Ok(visit.page(&format!("{} · delivery", delivery.event_type), Section::None, main))
}

async fn retry(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::POST, &format!("{}/retry", path(&id))).await?;
    Ok(visit.go_to(&format!("deliveries/{}", segment(&id)), "retried"))
}
