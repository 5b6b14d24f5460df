//! A filter and a transform, tried on the latest events of a subscriber. Nothing is sent or stored.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Problem;
use postrider_api::delivery::DeliveryList;
use postrider_api::simulate::{MatchReason, SimulationList, SimulationView};
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use serde_json::{Value, json};

use super::{PATH, page_of, read};
use crate::controls::{Control, refused};
use crate::failure::{Failure, problem};
use crate::form::Form;
use crate::json;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

const API: &str = "/v1/simulate";

/// On how many events it is tried.
const LATEST: usize = 5;

/// The form with the filter and the transform that the subscriber has, and what they do with its latest events.
pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let subscriber = read(&visit, &id).await?;
    let given = present(&subscriber);
    // As a draft, for which no secret is read.
    match simulated(&visit, &subscriber, &given).await {
        Ok(found) => Ok(page(&visit, &subscriber, &given, &found, None)),
        // Without `payloads:read` no stored event can be tried, but one that is typed in can.
        Err(failure) if failure.status() == 403 => Ok(page(&visit, &subscriber, &given, &[], None)),
        Err(failure) => Err(failure),
    }
}

/// Tries a filter and a transform that the subscriber does not have yet.
pub(super) async fn run(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let subscriber = read(&visit, &id).await?;
    match simulated(&visit, &subscriber, &sent.fields).await {
        Ok(found) => Ok(page(&visit, &subscriber, &sent.fields, &found, None).into_response()),
        Err(failure) if matches!(failure.status(), 400 | 422) => {
            Ok(page(&visit, &subscriber, &sent.fields, &[], Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

async fn simulated(
    visit: &Visit,
    subscriber: &SubscriberView,
    fields: &Query,
) -> Result<Vec<SimulationView>, Failure> {
    let draft = draft(visit, subscriber, fields)?;
    let mut requests = Vec::new();
    if let Some(data) = fields.get("data") {
        let event =
            json!({"event": fields.get("event").unwrap_or_default(), "data": parsed(visit, "data", data)?});
        requests.push(json!({"subscriber": draft, "event": event}));
    } else {
        let latest = Query::default().with("subscriber_id", subscriber.id).with("limit", LATEST);
        let deliveries: DeliveryList = visit.get("/v1/deliveries", &latest).await?;
        let events = deliveries.data.iter().map(|delivery| delivery.event_id);
        requests.extend(events.map(|event| json!({"subscriber": draft, "event_id": event})));
    }
    let mut found = Vec::new();
    for request in requests {
        match visit.send::<SimulationList>(Method::POST, API, &request).await {
            Ok(list) => found.extend(list.data),
            // Its payload has expired since.
            Err(failure) if failure.status() == 404 => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// The subscriber as it would be with the filter and the transform of the form.
fn draft(visit: &Visit, subscriber: &SubscriberView, fields: &Query) -> Result<Value, Failure> {
    let mut draft = json!({"url": subscriber.url, "events": subscriber.events, "format": subscriber.format});
    if let Some(channels) = &subscriber.channels {
        draft["channels"] = json!(channels);
    }
    if let Some(filter) = fields.get("filter") {
        draft["filter"] = json!(filter);
    }
    if let Some(transform) = fields.get("transform") {
        draft["transform"] = parsed(visit, "transform", transform)?;
    }
    let options = serde_json::to_value(&subscriber.format_options).unwrap_or_default();
    if options.as_object().is_some_and(|options| options.values().any(|option| !option.is_null())) {
        draft["format_options"] = options;
    }
    Ok(draft)
}

fn parsed(visit: &Visit, field: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(
            visit,
            problem(StatusCode::UNPROCESSABLE_ENTITY, format!("{field} is not JSON: {error}")),
        )
    })
}

fn present(subscriber: &SubscriberView) -> Query {
    let mut fields = Query::default();
    if let Some(filter) = &subscriber.filter {
        fields = fields.with("filter", filter);
    }
    if let Some(transform) = &subscriber.transform {
        fields = fields.with("transform", serde_json::to_string_pretty(transform).unwrap_or_default());
    }
    fields
}

fn page(
    visit: &Visit,
    subscriber: &SubscriberView,
    given: &Query,
    found: &[SimulationView],
    problem: Option<&Problem>,
) -> Page {
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Subscribers"), (&page_of(subscriber), &parts::short(&subscriber.id.to_string()))]))
        (parts::head(&html! { "Try a filter and a transform" }, &html! {}))
        p.lead { (subscriber.url) }
        (refused(problem))
        (fields(visit, subscriber, given))
        section {
            h2 { "What would happen" }
            @for one in found { (outcome(visit, one)) }
            @if found.is_empty() && problem.is_none() {
                (parts::empty(
                    "No event to try it on",
                    "The subscriber has no delivery yet, or its payloads are not shown to this key. Type an event in.",
                    None,
                ))
            }
        }
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, "Try a filter", Section::Subscribers, main)
}

fn fields(visit: &Visit, subscriber: &SubscriberView, given: &Query) -> Markup {
    let value = |name| given.get(name).unwrap_or_default();
    let page = page_of(subscriber);
    let filter = Control {
        name: "filter",
        label: "Filter",
        value: value("filter"),
        hint: "A CEL expression over event and data, such as data.total > 100. Empty: every event matches.",
        ..Control::default()
    };
    let transform = Control {
        name: "transform",
        label: "Transform",
        value: value("transform"),
        hint: r#"JSON, such as {"steps": [{"op": "drop", "path": "/card/cvv"}]}. Empty: the data is sent as it is."#,
        ..Control::default()
    };
    let event = Control {
        name: "event",
        label: "Event type",
        value: value("event"),
        hint: "For data that you type in.",
        ..Control::default()
    };
    let data = Control {
        name: "data",
        label: "Data",
        value: value("data"),
        hint: "JSON. Empty: the latest events that the subscriber got.",
        ..Control::default()
    };
    html! {
        form.panel method="post" action=(visit.link(&format!("{page}/try"))) {
            div.columns {
                div.stack { (filter.area(3)) (transform.area(6)) }
                div.stack { (event.line()) (data.area(6)) }
            }
            div.row {
                button.primary { "Try" }
                @if visit.may(Scope::SubscribersWrite) {
                    a.button.plain href=(visit.link(&format!("{page}/edit"))) { "Edit the subscriber" }
                }
                a.button.plain href=(visit.link(&page)) { "Back" }
            }
        }
    }
}

fn outcome(visit: &Visit, one: &SimulationView) -> Markup {
    let (shape, tone, word) = match one.reason {
        MatchReason::Matched => ("✓", "good", "would be delivered"),
        MatchReason::Inactive => ("–", "off", "the subscriber is inactive"),
        MatchReason::Pattern => ("–", "off", "no pattern matches"),
        MatchReason::Channel => ("–", "off", "no channel is shared"),
        MatchReason::Filter => ("–", "warn", "the filter is false"),
    };
    html! {
        article.panel {
            h3 { (parts::badge(shape, tone, word)) " " (parts::id(visit, "events", one.event_id)) }
            @if let Some(error) = one.filter.as_ref().and_then(|filter| filter.error.as_ref()) {
                p.error { "The filter failed, and the event would be delivered: " (error) }
            }
            @if let Some(error) = one.transform.as_ref().and_then(|transform| transform.error.as_ref()) {
                p.error { "The transform failed, and nothing would be sent: " (error) }
            }
            @if let Some(request) = &one.request {
                details open[one.matched] {
                    summary { (request.method) " " span.cut { (request.url) } }
                    (json::shown(&request.body))
                }
            }
            @if !one.attempts.is_empty() {
                p.quiet {
                    "If all failed, attempts would follow after "
                    (one.attempts.iter().skip(1).take(8).map(|attempt| text::seconds(attempt.after_seconds)).collect::<Vec<_>>().join(", "))
                }
            }
        }
    }
}
