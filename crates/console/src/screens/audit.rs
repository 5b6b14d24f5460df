//! The audit trail, with what each entry has changed.

use axum::routing::get;
use maud::{Markup, html};
use postrider_api::audit::{AuditEntryView, AuditList};
use postrider_core::audit::AuditAction;
use serde_json::Value;

use super::Screen;
use crate::failure::Failure;
use crate::layout::Section;
use crate::links::segment;
use crate::parts;
use crate::query::Query;
use crate::table::{Row, table};
use crate::text;
use crate::visit::{Page, Visit};

const PATH: &str = "audit";

/// The filters of the API.
const FILTERS: [&str; 5] = ["actor", "action", "target", "since", "until"];

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/audit", get(list))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    let page: AuditList = visit.get("/v1/audit", &visit.query).await?;
    let main = html! {
        (parts::head(&html! { "Audit" }, &html! {}))
        p.lead { "Who changed what, and who read a secret or a payload." }
        form.filters method="get" role="search" aria-label="Filter" {
            (parts::field(&visit, "actor", "Who", "key_… or environment"))
            (parts::choice(&visit, "action", "Action", AuditAction::ALL.iter().map(|action| action.as_str())))
            (parts::field(&visit, "target", "What", "an id, or a tenant"))
            (parts::field(&visit, "since", "Since", "2026-01-31T00:00:00Z"))
            (parts::field(&visit, "until", "Before", "2026-02-01T00:00:00Z"))
            (parts::hidden(&visit, &Query::default()))
            button.primary { "Filter" }
        }
        @if page.data.is_empty() {
            @if visit.query.only(&FILTERS).is_empty() {
                (parts::empty("Nothing yet", "Every change through the API or this console is recorded here.", None))
            } @else {
                (parts::empty("Nothing matches", "Take a filter away, or begin earlier.", None))
            }
        } @else {
            (entries(&visit, &page.data))
            (parts::pages(&visit, PATH, page.next_cursor.as_deref()))
        }
    };
    Ok(visit.page("Audit", Section::Audit, main))
}

/// Entries, each with what it has changed.
pub(super) fn entries(visit: &Visit, entries: &[AuditEntryView]) -> Markup {
    let columns = [("When", ""), ("Action", ""), ("What", ""), ("Who", ""), ("Changed", "wide")];
    let rows = entries.iter().map(|entry| {
        let changes = changes(&entry.before, &entry.after);
        let by = Query::default().with("actor", &entry.actor);
        Row {
            id: Some(entry.target.clone()),
            cells: vec![
                parts::ago(entry.at, visit.now),
                html! { (entry.action) },
                target(visit, &entry.target),
                html! {
                    a.cut href=(visit.link_with(PATH, &by)) title=(entry.actor) {
                        @if entry.actor_name.is_empty() { (parts::short(&entry.actor)) } @else { (entry.actor_name) }
                    }
                },
                html! {
                    details {
                        summary { (summary(entry, &changes)) }
                        @if !changes.is_empty() { (compared(&changes)) }
                        (origin(entry))
                    }
                },
            ],
        }
    });
    table("Audit trail, newest first", &columns, rows)
}

fn target(visit: &Visit, target: &str) -> Markup {
    let folder = match target.split_once('_').map(|(prefix, _)| prefix) {
        Some("sub") => "subscribers",
        Some("dlv") => "deliveries",
        Some("evt") => "events",
        Some("key") => "keys",
        Some("rpl") => "replays",
        _ => return html! { code { (target) } },
    };
    html! { a.id href=(visit.link(&format!("{folder}/{}", segment(target)))) title=(target) { (parts::short(target)) } }
}

fn origin(entry: &AuditEntryView) -> Markup {
    parts::facts(&[
        ("When", html! { (text::moment(entry.at)) " UTC" }),
        ("Tenant", html! { (entry.tenant) }),
        ("Actor", html! { code { (entry.actor) } }),
        ("Target", html! { code { (entry.target) } }),
        ("Address", html! { @if let Some(address) = &entry.address { (address) } @else { (parts::none()) } }),
        (
            "Request",
            html! { @if let Some(id) = &entry.request_id { code { (id) } } @else { (parts::none()) } },
        ),
    ])
}

/// A member that differs: its name, and its value before and after.
type Changed<'a> = (&'a str, Option<&'a Value>, Option<&'a Value>);

/// The members that differ, in the order of their names.
fn changes<'a>(before: &'a Value, after: &'a Value) -> Vec<Changed<'a>> {
    let object = |value: &'a Value| value.as_object();
    let mut names: Vec<&str> = [object(before), object(after)]
        .into_iter()
        .flatten()
        .flat_map(|members| members.keys().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let changes = names.into_iter().map(|name| (name, before.get(name), after.get(name)));
    changes.filter(|(_, before, after)| before != after).collect()
}

/// What has changed, in a few words.
fn summary(entry: &AuditEntryView, changes: &[Changed<'_>]) -> String {
    const SHOWN: usize = 3;
    let fields = text::counted(changes.len() as u64, "field", "fields");
    match (changes.is_empty(), entry.before.is_null(), entry.after.is_null()) {
        (true, ..) => return "details".to_owned(),
        (_, true, false) if changes.len() > SHOWN => return format!("new, {fields}"),
        (_, false, true) => return format!("gone, {fields}"),
        _ => {}
    }
    let names: Vec<&str> = changes.iter().take(SHOWN).map(|(name, _, _)| *name).collect();
    let rest = changes.len().saturating_sub(SHOWN);
    if rest == 0 { names.join(", ") } else { format!("{} and {rest} more", names.join(", ")) }
}

fn compared(changes: &[Changed<'_>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="What has changed" {
            table.compared {
                caption.unseen { "What has changed" }
                thead { tr { th scope="col" { "Field" } th scope="col" { "Before" } th scope="col" { "After" } } }
                tbody {
                    @for (name, before, after) in changes {
                        tr { th scope="row" { (name) } td { (value(*before, "−")) } td { (value(*after, "+")) } }
                    }
                }
            }
        }
    }
}

fn value(value: Option<&Value>, sign: &str) -> Markup {
    let text = match value {
        None => return parts::none(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    html! { code { span aria-hidden="true" { (sign) " " } (text) } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_members_that_differ_are_shown() {
        let (before, after) = (json!({"a": 1, "b": 2, "c": [1]}), json!({"a": 1, "b": 3, "d": null}));
        let names: Vec<&str> = changes(&before, &after).into_iter().map(|(name, _, _)| name).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert!(changes(&Value::Null, &Value::Null).is_empty());
        assert_eq!(changes(&Value::Null, &after).len(), 3, "all of what was created");
    }
}
