//! The form that creates or changes a key.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::Problem;
use postrider_api::key::{CreatedKeyView, KeyView};
use postrider_core::key::{Preset, Scope};
use serde_json::{Value, json};

use super::{API, PATH, read, shown_once};
use crate::controls::{Control, lines, refused};
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::text;
use crate::visit::{Page, Visit};

pub(super) async fn new(visit: Visit) -> Page {
    page(&visit, None, &visit.query, None)
}

pub(super) async fn create(visit: Visit, sent: Form) -> Result<Response, Failure> {
    let mut request = request(&sent.fields);
    if let Some(tenant) = sent.fields.get("of") {
        request["tenant"] = json!(tenant);
    }
    if let Some(members) = request.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    match visit.send::<CreatedKeyView>(Method::POST, API, &request).await {
        Ok(created) => Ok(shown_once(&visit, &created).into_response()),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, None, &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let key = read(&visit, &id).await?;
    let given = present(&key);
    Ok(page(&visit, Some(&key), &given, None))
}

pub(super) async fn save(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let key = read(&visit, &id).await?;
    match visit.act_with(Method::PATCH, &format!("{API}/{}", key.id), &request(&sent.fields)).await {
        Ok(()) => Ok(visit.go_to(&format!("{PATH}/{}", key.id), "saved")),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, Some(&key), &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// A key may be refused because it would be stronger than the session's own.
fn is_about_the_form(failure: &Failure) -> bool {
    matches!(failure.status(), 400 | 403 | 409 | 422)
}

fn request(fields: &Query) -> Value {
    let list = |name: &str| json!(lines(fields.get(name)));
    let number = |name: &str| match fields.get(name) {
        None => Value::Null,
        Some(text) => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
    };
    let scopes: Vec<&str> = fields.all("scopes").collect();
    json!({
        "name": fields.get("name"),
        "scopes": scopes,
        "expires_at": fields.get("expires_at"),
        "limits": {
            "event_types": list("event_types"),
            "subscriber_ids": list("subscriber_ids"),
            "cidrs": list("cidrs"),
            "requests_per_second": number("requests_per_second"),
            "burst": number("burst"),
        },
    })
}

fn present(key: &KeyView) -> Query {
    let limits = &key.limits;
    let subscribers: Vec<String> = limits.subscriber_ids.iter().map(ToString::to_string).collect();
    let mut fields = Query::default()
        .with("name", &key.name)
        .with("event_types", limits.event_types.join(", "))
        .with("subscriber_ids", subscribers.join(", "))
        .with("cidrs", limits.cidrs.join(", "));
    if let Some(at) = key.expires_at {
        fields = fields.with("expires_at", at);
    }
    if let Some(rate) = limits.requests_per_second {
        fields = fields.with("requests_per_second", rate);
    }
    if let Some(burst) = limits.burst {
        fields = fields.with("burst", burst);
    }
    key.scopes.iter().fold(fields, |fields, scope| fields.and("scopes", scope))
}

fn page(visit: &Visit, key: Option<&KeyView>, given: &Query, problem: Option<&Problem>) -> Page {
    let title = if key.is_some() { "Edit a key" } else { "New key" };
    let (action, back) = match key {
        Some(key) => (format!("{PATH}/{}/edit", key.id), format!("{PATH}/{}", key.id)),
        None => (format!("{PATH}/new"), PATH.to_owned()),
    };
    let line = |name, label, hint| {
        Control { name, label, value: given.get(name).unwrap_or_default(), hint, required: name == "name" }
            .line()
    };
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Keys")]))
        (parts::head(&html! { (title) }, &html! {}))
        (refused(problem))
        form.stack method="post" action=(visit.link(&action)) {
            fieldset.panel {
                legend { "Key" }
                (line("name", "Name", "For people: the program or the person that uses it."))
                @if key.is_none() && visit.session.is_operator() {
                    @let chosen = visit.chosen.as_ref().map_or("default", |tenant| tenant.as_str());
                    @let of = Control {
                        name: "of",
                        label: "Tenant",
                        value: given.get("of").unwrap_or(chosen),
                        hint: "The tenant for which it acts, such as default; * for an operator’s key.",
                        required: true,
                    };
                    (of.line())
                }
                (line("expires_at", "Expires", "Such as 2027-01-31T00:00:00Z. Empty: never."))
            }
            (scopes(visit, given, key.is_none()))
            fieldset.panel {
                legend { "How far it reaches" }
                p.hint { "Empty fields limit nothing." }
                div.pair {
                    (line("event_types", "Event types", "Which it may dispatch, such as order.*"))
                    (line("subscriber_ids", "Subscribers", "Ids. It can then make only calls that concern them."))
                    (line("cidrs", "Networks", "From which it may be used, such as 203.0.113.0/24"))
                    (line("requests_per_second", "Requests per second", "Each server counts on its own."))
                    (line("burst", "Burst", "How many of them it may make at once."))
                }
            }
            div.row {
                button.primary { (if key.is_some() { "Save" } else { "Create" }) }
                a.button.plain href=(visit.link(&back)) { "Back" }
            }
        }
    };
    let status = match problem {
        None => StatusCode::OK,
        Some(problem) => StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY),
    };
    visit.page_with(status, title, Section::Keys, main)
}

/// Presets, and scopes one by one. A session cannot give away what it does not have.
fn scopes(visit: &Visit, given: &Query, presets: bool) -> Markup {
    let is_given = |word: &str| given.all("scopes").any(|given| given == word);
    let offered = |preset: &Preset| preset.scopes().missing_from(visit.session.scopes).is_none();
    html! {
        @if presets {
            fieldset.panel {
                legend { "What it may do" }
                div.ticks {
                    @for preset in Preset::ALL.iter().copied().filter(offered) {
                        div.field.tick {
                            input type="checkbox" id=(format!("preset-{preset}")) name="scopes" value=(preset) checked[is_given(preset.as_str())];
                            label for=(format!("preset-{preset}")) { strong { (text::words(preset.as_str())) } " " span.hint { (explained(preset)) } }
                        }
                    }
                }
            }
        }
        fieldset.panel {
            legend { (if presets { "Or scope by scope" } else { "What it may do" }) }
            div.ticks {
                @for scope in Scope::ALL.iter().copied().filter(|scope| visit.may(*scope)) {
                    div.field.tick {
                        input type="checkbox" id=(format!("scope-{scope}")) name="scopes" value=(scope) checked[is_given(scope.as_str())];
                        label for=(format!("scope-{scope}")) { code { (scope) } }
                    }
                }
            }
        }
    }
}

fn explained(preset: Preset) -> &'static str {
    match preset {
        Preset::Publisher => "a program that dispatches events",
        Preset::Observer => "watches, without payloads",
        Preset::Support => "watches and retries, without payloads",
        Preset::Integrator => {
            "connects an application: dispatches, manages subscribers and their secrets, reads everything"
        }
        Preset::TenantAdmin => "everything that is not for operators only",
        Preset::Operator => "everything",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_becomes_a_request_of_the_api() {
        let fields =
            Query::read(b"name=shop&scopes=publisher&scopes=events:read&event_types=order.*&burst=x");
        let expected = json!({
            "name": "shop", "scopes": ["publisher", "events:read"], "expires_at": null,
            "limits": {"event_types": ["order.*"], "subscriber_ids": [], "cidrs": [], "requests_per_second": null, "burst": "x"},
        });
        assert_eq!(request(&fields), expected);
    }
}
