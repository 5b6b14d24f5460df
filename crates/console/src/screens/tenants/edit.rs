//! The form that registers or changes a tenant.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use maud::html;
use postrider_api::Problem;
use postrider_api::tenant::TenantView;
use serde_json::{Value, json};

use super::{API, PATH, read};
use crate::controls::{Control, refused, tick};
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::visit::{Page, Visit};

pub(super) async fn new(visit: Visit) -> Page {
    page(&visit, None, &visit.query, None)
}

pub(super) async fn create(visit: Visit, sent: Form) -> Result<Response, Failure> {
    let mut request = request(&sent.fields);
    request["id"] = json!(sent.fields.get("id"));
    if let Some(members) = request.as_object_mut() {
        // A new tenant is active, and takes every event type.
        members.retain(|name, value| !value.is_null() && name != "active" && name != "only_registered_types");
    }
    match visit.send::<TenantView>(Method::POST, API, &request).await {
        Ok(tenant) => Ok(visit.go_to(&format!("{PATH}/{}", tenant.id), "created")),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, None, &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let tenant = read(&visit, &id).await?;
    let given = present(&tenant);
    Ok(page(&visit, Some(&tenant), &given, None))
}

pub(super) async fn save(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let tenant = read(&visit, &id).await?;
    let mut request = request(&sent.fields);
    // The form does not show the proxy's credentials, so an empty field keeps it.
    if sent.fields.get("egress_proxy").is_none()
        && sent.fields.get("no_proxy").is_none()
        && let Some(members) = request.as_object_mut()
    {
        members.remove("egress_proxy");
    }
    match visit.act_with(Method::PATCH, &format!("{API}/{}", tenant.id), &request).await {
        Ok(()) => Ok(visit.go_to(&format!("{PATH}/{}", tenant.id), "saved")),
        Err(failure) if is_about_the_form(&failure) => {
            Ok(page(&visit, Some(&tenant), &sent.fields, Some(failure.problem())).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn is_about_the_form(failure: &Failure) -> bool {
    matches!(failure.status(), 400 | 409 | 422)
}

fn request(fields: &Query) -> Value {
    let is_on = |name: &str| fields.get(name).is_some();
    json!({
        "name": fields.get("name").unwrap_or_default(),
        "active": is_on("active"),
        "only_registered_types": is_on("only_registered_types"),
        "retention": {"history": fields.get("history"), "payloads": fields.get("payloads"), "dead": fields.get("dead")},
        "egress_proxy": fields.get("egress_proxy"),
    })
}

fn present(tenant: &TenantView) -> Query {
    let on = |on: bool| on.then(|| "true".to_owned());
    let fields = [
        ("name", Some(tenant.name.clone())),
        ("active", on(tenant.active)),
        ("only_registered_types", on(tenant.only_registered_types)),
        ("history", tenant.retention.history.clone()),
        ("payloads", tenant.retention.payloads.clone()),
        ("dead", tenant.retention.dead.clone()),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(Query::default(), |query, (name, value)| query.with(name, value))
}

fn page(visit: &Visit, tenant: Option<&TenantView>, given: &Query, problem: Option<&Problem>) -> Page {
    let title = if tenant.is_some() { "Edit a tenant" } else { "New tenant" };
    let (action, back) = match tenant {
        Some(tenant) => (format!("{PATH}/{}/edit", tenant.id), format!("{PATH}/{}", tenant.id)),
        None => (format!("{PATH}/new"), PATH.to_owned()),
    };
    let line = |name, label, hint| {
        Control { name, label, value: given.get(name).unwrap_or_default(), hint, required: name == "id" }
            .line()
    };
    let has_proxy = tenant.is_some_and(|tenant| tenant.egress_proxy.is_some());
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Tenants")]))
        (parts::head(&html! { (title) }, &html! {}))
        (refused(problem))
        form.stack method="post" action=(visit.link(&action)) {
            fieldset.panel {
                legend { "Tenant" }
                @if let Some(tenant) = tenant { p { "Tenant " strong { (tenant.id) } } }
                @else { (line("id", "Tenant", "1 to 64 characters of a-z, 0-9, - and _")) }
                (line("name", "Name", "For people."))
                @if tenant.is_some() {
                    (tick("active", "Its events are taken and delivered", given.get("active").is_some()))
                    (tick("only_registered_types", "Events of types that are not registered are refused", given.get("only_registered_types").is_some()))
                }
            }
            fieldset.panel {
                legend { "Retention" }
                p.hint { "An age such as 30d or 12h. Empty: as long as in the rest of the deployment." }
                div.pair {
                    (line("history", "Events, deliveries and attempts", ""))
                    (line("payloads", "Payloads", "Data of events and responses."))
                    (line("dead", "Dead letters", "Not shorter than the history."))
                }
            }
            fieldset.panel {
                legend { "Egress" }
                (line("egress_proxy", "Proxy", "http://, socks5:// or socks5h://, with user:password@host:port. Empty: no change."))
                @if has_proxy { (tick("no_proxy", "Remove the proxy", false)) }
            }
            div.row {
                button.primary { (if tenant.is_some() { "Save" } else { "Register" }) }
                a.button.plain href=(visit.link(&back)) { "Back" }
            }
        }
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, title, Section::Tenants, main)
}
