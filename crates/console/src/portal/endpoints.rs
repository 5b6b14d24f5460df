//! All endpoints of the owner, and adding one.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::Method;
use maud::{Markup, html};
use postrider_api::subscriber::{
    BreakerState, CreatedSubscriberView, SubscriberList, SubscriberRequest, SubscriberView,
};
use postrider_core::key::Scope;

use super::events;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Console, Page, Visit};

pub(super) fn routes(router: Router<Console>) -> Router<Console> {
    router.route("/portal/endpoints", get(list)).route("/portal/endpoints/new", get(form).post(add))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let query = visit.query.only(&["cursor"]).with("limit", 50);
    let endpoints: SubscriberList = visit.get("/v1/subscribers", &query).await?;
    let now = visit.now;
    let rows = endpoints.data.iter().map(|endpoint| Row {
        id: Some(endpoint.id.to_string()),
        cells: vec![
            html! { a.url href=(visit.link(&format!("endpoints/{}", endpoint.id))) { (endpoint.url) } @if !endpoint.description.is_empty() { br; small { (endpoint.description) } } },
            state(endpoint),
            html! { @for pattern in &endpoint.events { code { (pattern) } " " } },
            parts::ago(endpoint.created_at, now),
        ],
    });
    let columns = [("Endpoint", "wide"), ("State", ""), ("Event types", ""), ("Added", "")];
    let can_add = can_add(&visit);
    let main = html! {
        (parts::head(
            &html! { "Endpoints" },
            &html! { @if can_add { a.button.primary href=(visit.link("endpoints/new")) { "Add an endpoint" } } },
        ))
        @if endpoints.data.is_empty() {
            (parts::empty("No endpoints yet", "An endpoint is a URL of yours that receives events as they happen, as signed HTTP requests.", None))
        } @else {
            (table("Endpoints", &columns, rows))
            (parts::pages(&visit, "endpoints", endpoints.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Endpoints", Section::None, main))
}

/// Whether the owner may add endpoints: not if the link names those that it shows.
fn can_add(visit: &Visit) -> bool {
    visit.may(Scope::SubscribersWrite)
        && visit.session.portal.as_ref().is_some_and(|portal| portal.subscribers.is_empty())
}

/// How an endpoint is doing, in words.
pub(super) fn state(endpoint: &SubscriberView) -> Markup {
    html! {
        @if !endpoint.active {
            (parts::badge("–", "off", "switched off"))
            @if let Some(reason) = endpoint.deactivation_reason { br; small { (text::words(reason.as_str())) } }
        }
        @else if endpoint.paused_at.is_some() { (parts::badge("‖", "wait", "paused")) }
        @else if endpoint.breaker.state != BreakerState::Closed { (parts::badge("✕", "bad", "failing, sent less often")) }
        @else if endpoint.breaker.failures > 0 { (parts::badge("!", "warn", "last attempt failed")) }
        @else { (parts::badge("✓", "good", "ready")) }
    }
}

async fn form(visit: Visit) -> Result<Page, Failure> {
    let fields = events::fields(&visit, &[]).await?;
    let main = html! {
        p.crumbs { a href=(visit.link("endpoints")) { "Endpoints" } }
        (parts::head(&html! { "Add an endpoint" }, &html! {}))
        form.stack.panel method="post" action=(visit.link("endpoints/new")) {
            div.field {
                label for="url" { "URL" }
                input id="url" name="url" type="url" required maxlength="2048" placeholder="https://example.com/webhooks" autocomplete="off";
            }
            div.field {
                label for="description" { "Description (optional)" }
                input id="description" name="description" maxlength="1000" autocomplete="off";
            }
            (fields)
            div.row { button.primary { "Add" } a.button.plain href=(visit.link("endpoints")) { "Back" } }
        }
    };
    Ok(visit.page("Add an endpoint", Section::None, main))
}

async fn add(visit: Visit, form: Form) -> Result<Response, Failure> {
    let text = |fields: &Query, name: &str| fields.get(name).map(str::to_owned);
    let request = SubscriberRequest {
        description: text(&form.fields, "description"),
        ..SubscriberRequest::new(form.fields.get("url").unwrap_or_default(), events::chosen(&form.fields))
    };
    let created: CreatedSubscriberView = visit.send(Method::POST, "/v1/subscribers", &request).await?;
    let subscriber = created.subscriber;
    Ok(visit.go_to(&format!("endpoints/{}/verify", subscriber.id), "created").into_response())
}
