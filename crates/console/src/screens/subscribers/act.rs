//! What a click does to a subscriber.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use postrider_api::event::DispatchedView;
use postrider_api::stats::StatsView;
use postrider_api::subscriber::SubscriberView;

use super::{API, PATH, page_of, read};
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) async fn pause(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "pause", "paused").await
}

pub(super) async fn resume(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "resume", "resumed").await
}

pub(super) async fn activate(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "activate", "activated").await
}

pub(super) async fn deactivate(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    act(&visit, &id, "deactivate", "deactivated").await
}

pub(super) async fn delete(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::DELETE, &format!("{API}/{}", segment(&id))).await?;
    Ok(visit.go_to(PATH, "deleted"))
}

/// Sends a test event and shows its story, where the attempt appears.
pub(super) async fn test(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    let path = format!("{API}/{}/test", segment(&id));
    let dispatched: DispatchedView = visit.send(Method::POST, &path, &serde_json::Value::Null).await?;
    Ok(visit.go_to(&format!("events/{}", dispatched.id), "tested"))
}

pub(super) async fn ask_deactivate(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    ask(&visit, &id, "deactivate", "Deactivate", "It gets no further events until it is activated again.")
        .await
}

pub(super) async fn ask_delete(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    ask(
        &visit,
        &id,
        "delete",
        "Delete",
        "Its secret, headers and settings are deleted. This cannot be undone.",
    )
    .await
}

async fn ask(visit: &Visit, id: &str, action: &str, verb: &str, effect: &str) -> Result<Page, Failure> {
    let subscriber = read(visit, id).await?;
    let page = page_of(&subscriber);
    let what = html! {
        p { strong { (subscriber.url) } }
        p { (effect) }
        (pending(visit, &subscriber).await?)
    };
    let title = format!("{verb} this subscriber");
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Subscribers"), (&page, &parts::short(&subscriber.id.to_string()))]))
        (parts::head(&html! { (title) "?" }, &html! {}))
        (parts::confirm(visit, &what, &format!("{page}/{action}"), &Query::default(), &title, &page))
    };
    Ok(visit.page(&title, Section::Subscribers, main))
}

/// What becomes of deliveries that wait.
async fn pending(visit: &Visit, subscriber: &SubscriberView) -> Result<Markup, Failure> {
    let query = Query::default().with("subscriber_id", subscriber.id);
    let stats: Option<StatsView> = visit.get_if_allowed("/v1/stats", &query).await?;
    let pending = stats.map_or(0, |stats| stats.deliveries.pending);
    Ok(html! {
        @if pending > 0 {
            p { strong { (text::counted(pending, "delivery is", "deliveries are")) } " pending and will be cancelled." }
        }
    })
}

async fn act(visit: &Visit, id: &str, what: &str, notice: &str) -> Result<Response, Failure> {
    visit.act(Method::POST, &format!("{API}/{}/{what}", segment(id))).await?;
    Ok(visit.go_to(&format!("{PATH}/{}", segment(id)), notice))
}
