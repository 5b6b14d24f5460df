//! API keys: listed, created, shown once, changed, rotated and revoked.

mod edit;
mod rotate;

use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use maud::{Markup, html};
use postrider_api::key::{CreatedKeyView, KeyList, KeyView};
use postrider_core::key::{Preset, Scopes};

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "keys";
const API: &str = "/v1/keys";

pub(super) fn routes(router: Screen) -> Screen {
    router
        .route("/console/keys", get(list))
        .route("/console/keys/new", get(edit::new).post(edit::create))
        .route("/console/keys/{id}", get(show))
        .route("/console/keys/{id}/edit", get(edit::form).post(edit::save))
        .route("/console/keys/{id}/rotate", get(rotate::ask).post(rotate::rotate))
        .route("/console/keys/{id}/revoke", get(ask_revoke).post(revoke))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: KeyList = visit.get(API, &visit.query).await?;
    let columns = [
        ("Name", "wide"),
        ("State", ""),
        ("Tenant", ""),
        ("May", ""),
        ("Last used", ""),
        ("Expires", ""),
        ("Created", ""),
    ];
    let rows = page.data.iter().map(|key| Row {
        id: Some(key.id.to_string()),
        cells: vec![
            html! { a.cut href=(visit.link(&format!("{PATH}/{}", key.id))) { (key.name) } },
            state(&visit, key),
            html! { (key.tenant) },
            html! { span.cut { (may(key)) } },
            parts::maybe_ago(key.last_used_at, visit.now),
            parts::maybe_ago(key.expires_at, visit.now),
            parts::ago(key.created_at, visit.now),
        ],
    });
    let main = html! {
        (parts::head(&html! { "Keys" }, &html! { a.button.primary href=(visit.link("keys/new")) { "New key" } }))
        p.lead { "Programs and people show a key. What it may do is decided by its scopes." }
        @if page.data.is_empty() {
            (parts::empty(
                "No key yet",
                "So far only the key in the server’s environment exists. Give each program a key of its own, with the scopes that it needs.",
                None,
            ))
        } @else {
            (table("Keys", &columns, rows))
            (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Keys", Section::Keys, main))
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let key = read(&visit, &id).await?;
    let path = format!("{PATH}/{}", key.id);
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Keys")]))
        (parts::head(&html! { (key.name) }, &html! {
            @if key.revoked_at.is_none() {
                a.button.plain href=(visit.link(&format!("{path}/edit"))) { "Edit" }
                a.button.plain href=(visit.link(&format!("{path}/rotate"))) { "Rotate…" }
                a.button.plain href=(visit.link(&format!("{path}/revoke"))) data-key="x" { "Revoke…" }
            }
        }))
        div.panel { (parts::facts(&[
            ("State", state(&visit, &key)),
            ("Id", parts::copied(&key.id.to_string())),
            ("Tenant", html! { @if key.tenant.to_string() == "*" { "every tenant (operator)" } @else { (key.tenant) } }),
            ("Created", html! { (parts::at(key.created_at, visit.now)) " by " (key.created_by) }),
            ("Last used", parts::maybe_ago(key.last_used_at, visit.now)),
            ("Expires", html! { @if let Some(at) = key.expires_at { (parts::at(at, visit.now)) } @else { "never" } }),
        ])) }
        section.panel { h2 { "What it may do" } ul.words { @for scope in &key.scopes { li { code { (scope) } } } } }
        section.panel { h2 { "How far it reaches" } (limits(&key)) }
        p {
            a href=(visit.link(&format!("audit?actor={}", key.id))) { "What it did" } " · "
            a href=(visit.link(&format!("audit?target={}", key.id))) { "What was done to it" }
        }
    };
    Ok(visit.page("Key", Section::Keys, main))
}

async fn ask_revoke(visit: Visit, Path(id): Path<String>) -> Result<Page, Failure> {
    let key = read(&visit, &id).await?;
    let path = format!("{PATH}/{}", key.id);
    let what = html! {
        p { strong { (key.name) } " " (state(&visit, &key)) }
        p { "Requests with it are refused within 5 s, and its sessions end. This cannot be undone." }
        p { "It was last used: " (parts::maybe_ago(key.last_used_at, visit.now)) }
    };
    let main = html! {
        (parts::crumbs(&visit, &[(PATH, "Keys"), (&path, &key.name)]))
        (parts::head(&html! { "Revoke this key?" }, &html! {}))
        (parts::confirm(&visit, &what, &format!("{path}/revoke"), &Query::default(), "Revoke the key", &path))
    };
    Ok(visit.page("Revoke a key", Section::Keys, main))
}

async fn revoke(visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    visit.act(Method::DELETE, &format!("{API}/{}", segment(&id))).await?;
    Ok(visit.go_to(PATH, "revoked"))
}

async fn read(visit: &Visit, id: &str) -> Result<KeyView, Failure> {
    visit.get(&format!("{API}/{}", segment(id)), &Query::default()).await
}

/// The page that shows the text of a key. No other page does.
fn shown_once(visit: &Visit, created: &CreatedKeyView) -> Page {
    let key = &created.view;
    let main = html! {
        (parts::head(&html! { (key.name) }, &html! {}))
        div.panel.secret {
            h2 { "Copy the key now" }
            p { "It is shown only once; the server keeps only its hash." }
            p { (parts::copied(&created.key)) }
        }
        p { a.button.plain href=(visit.link(&format!("{PATH}/{}", key.id))) { "Done" } }
    };
    visit.page("Key", Section::Keys, main)
}

fn state(visit: &Visit, key: &KeyView) -> Markup {
    if key.revoked_at.is_some() {
        return parts::badge("✕", "bad", "revoked");
    }
    if key.expires_at.is_some_and(|at| at.0 <= visit.now) {
        return parts::badge("–", "off", "expired");
    }
    parts::badge("✓", "good", "valid")
}

/// What a key may do: the preset that it matches, or the number of its scopes.
fn may(key: &KeyView) -> String {
    let scopes: Scopes = key.scopes.iter().copied().collect();
    let preset = Preset::ALL.iter().find(|preset| preset.scopes() == scopes);
    preset.map_or_else(
        || match key.scopes.as_slice() {
            [one] => one.to_string(),
            all => format!("{} scopes", all.len()),
        },
        |preset| text::words(preset.as_str()),
    )
}

fn limits(key: &KeyView) -> Markup {
    let limits = &key.limits;
    let all = |values: Vec<String>| {
        if values.is_empty() {
            parts::none()
        } else {
            html! { code { (values.join(", ")) } }
        }
    };
    parts::facts(&[
        ("Event types", all(limits.event_types.clone())),
        ("Subscribers", all(limits.subscriber_ids.iter().map(ToString::to_string).collect())),
        ("Networks", all(limits.cidrs.clone())),
        (
            "Requests",
            html! {
                @if let Some(rate) = limits.requests_per_second {
                    (rate) " per second" @if let Some(burst) = limits.burst { ", bursts of " (burst) }
                } @else { (parts::none()) }
            },
        ),
    ])
}
