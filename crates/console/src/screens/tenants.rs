//! Tenants: listed, registered, changed and deleted. For operators.

mod edit;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{Method, StatusCode};
use maud::{Markup, html};
use postrider_api::tenant::{TenantList, TenantView};

use super::Screen;
use crate::controls::Control;
use crate::failure::Failure;
use crate::form::Form;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "tenants";
const API: &str = "/v1/tenants";

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/tenants", get(list))
        .route("/console/tenants/new", get(edit::new).post(edit::create))
        .route("/console/tenants/{id}", get(show))
        .route("/console/tenants/{id}/edit", get(edit::form).post(edit::save))
        .route("/console/tenants/{id}/delete", get(ask_delete).post(delete))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: TenantList = visit.get(API, &visit.query).await?;
    let columns = [
        ("Tenant", ""),
        ("Name", "wide"),
        ("State", ""),
        ("Subscribers", "num"),
        ("Deliveries, 30 d", "num"),
        ("Dead", "num"),
        ("Success", "num"),
        ("Registered", ""),
    ];
    let rows = page.data.iter().map(|tenant| {
        let deliveries = &tenant.counts.deliveries;
        Row {
            id: Some(tenant.id.to_string()),
            cells: vec![
                html! { a href=(visit.link(&format!("{PATH}/{}", tenant.id))) { (tenant.id) } },
                html! { span.cut { (tenant.name) } },
                state(tenant),
                html! { (text::count(tenant.counts.subscribers.total)) },
                html! { (text::count(deliveries.total)) },
                html! { (text::count(deliveries.dead)) },
                html! { @if let Some(rate) = deliveries.success_rate { (text::percent(rate)) } @else { (parts::none()) } },
                parts::ago(tenant.created_at, visit.now),
            ],
        }
    });
    let main = html! {
        (parts::head(&html! { "Tenants" }, &html! { a.button.primary href=(visit.link("tenants/new")) { "New tenant" } }))
        p.lead { "Each tenant’s events, subscribers and keys are separate from all others." }
        (table("Tenants", &columns, rows))
        (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
    };
    Ok(visit.page("Tenants", Section::Tenants, main))
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let tenant = read(&visit, &id).await?;
    let path = format!("{PATH}/{}", tenant.id);
    let deliveries = &tenant.counts.deliveries;
    let age = |age: &Option<String>| html! { @if let Some(age) = age { (age) } @else { span.quiet { "as in the deployment" } } };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Tenants")]))
        (parts::head(&html! { (tenant.id) }, &html! {
            a.button href=(visit.link(&format!("?tenant={}", tenant.id))) { "Open its console" }
            @if tenant.deletion.is_none() {
                a.button.plain href=(visit.link(&format!("{path}/edit"))) { "Edit" }
                a.button.plain href=(visit.link(&format!("{path}/delete"))) data-key="x" { "Delete…" }
            }
        }))
        @if !tenant.name.is_empty() { p.lead { (tenant.name) } }
        div.numbers {
            (parts::number("State", &html! { span.words { (state(&tenant)) } }, &html! { (deletion(&tenant)) }))
            (parts::number(
                "Subscribers",
                &html! { (text::count(tenant.counts.subscribers.total)) },
                &html! { (text::count(tenant.counts.subscribers.active)) " active" },
            ))
            (parts::number("Deliveries", &html! { (text::count(deliveries.total)) }, &html! { "in the last 30 days" }))
            (parts::number(
                "Success",
                &html! { @if let Some(rate) = deliveries.success_rate { (text::percent(rate)) } @else { (parts::none()) } },
                &html! { (text::counted(deliveries.dead, "dead letter", "dead letters")) },
            ))
        }
        div.columns {
            section.panel { h2 { "Retention" } (parts::facts(&[
                ("History", age(&tenant.retention.history)),
                ("Payloads", age(&tenant.retention.payloads)),
                ("Dead letters", age(&tenant.retention.dead)),
            ])) }
            section.panel { h2 { "Settings" } (parts::facts(&[
                ("Only registered types", html! { (if tenant.only_registered_types { "yes" } else { "no" }) }),
                ("Egress proxy", html! { @if let Some(proxy) = &tenant.egress_proxy { code { (proxy) } } @else { (parts::none()) } }),
                ("Metadata", metadata(&tenant)),
                ("Registered", parts::at(tenant.created_at, visit.now)),
            ])) }
        }
        p { a href=(visit.link(&format!("audit?target={}", tenant.id))) { "Changes" } }
    };
    Ok(visit.page("Tenant", Section::Tenants, main))
}

async fn ask_delete(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let tenant = read(&visit, &id).await?;
    Ok(confirm(&visit, &tenant, false))
}

async fn delete(visit: Visit, Path(id): Path<String>, sent: Form) -> Result<Response, Failure> {
    let tenant = read(&visit, &id).await?;
    if sent.fields.get("name") != Some(tenant.id.as_str()) {
        return Ok(confirm(&visit, &tenant, true).into_response());
    }
    visit.act(Method::DELETE, &format!("{API}/{}", tenant.id)).await?;
    Ok(visit.go_to(&format!("{PATH}/{}", tenant.id), "deleted"))
}

/// The page that asks for the tenant's name, because nothing brings its data back.
fn confirm(visit: &Visit, tenant: &TenantView, wrong: bool) -> Page {
    let path = format!("{PATH}/{}", tenant.id);
    let name = Control {
        name: "name",
        label: "Type the tenant’s name to confirm",
        required: true,
        ..Control::default()
    };
    let main = html! {
        (parts::crumbs(visit, &[(PATH, "Tenants"), (&path, tenant.id.as_str())]))
        (parts::head(&html! { "Delete " (tenant.id) "?" }, &html! {}))
        div.panel.confirm {
            p {
                "This deletes " strong { (text::counted(tenant.counts.subscribers.total, "subscriber", "subscribers")) }
                ", all events, deliveries and keys of the tenant. It cannot be undone."
            }
            @if wrong { p.error role="alert" { "That is not the tenant’s name." } }
            form method="post" action=(visit.link(&format!("{path}/delete"))) {
                (name.line())
                div.row { button.danger { "Delete the tenant" } a.button.plain href=(visit.link(&path)) { "Back" } }
            }
        }
    };
    let status = if wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visit.page_with(status, "Delete a tenant", Section::Tenants, main)
}

async fn read(visit: &Visit, id: &str) -> Result<TenantView, Failure> {
    visit.get(&format!("{API}/{}", segment(id)), &Query::default()).await
}

fn state(tenant: &TenantView) -> Markup {
    if tenant.deletion.is_some() {
        parts::badge("✕", "bad", "being deleted")
    } else if tenant.active {
        parts::badge("✓", "good", "active")
    } else {
        parts::badge("‖", "warn", "not active")
    }
}

fn deletion(tenant: &TenantView) -> String {
    match tenant.deletion {
        Some(deletion) => format!("{} deleted so far", text::counted(deletion.rows, "row", "rows")),
        None if tenant.active => "events are taken and delivered".to_owned(),
        None => "events are refused, deliveries wait".to_owned(),
    }
}

fn metadata(tenant: &TenantView) -> Markup {
    if tenant.metadata.is_empty() {
        return parts::none();
    }
    let pairs = tenant.metadata.iter().map(|(name, value)| format!("{name}={value}"));
    html! { (pairs.collect::<Vec<_>>().join(", ")) }
}
