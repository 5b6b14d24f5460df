//! What pages consist of.

use maud::{Markup, html};
use postrider_api::Moment;
use postrider_core::{DeliveryStatus, Timestamp};

use crate::links::segment;
use crate::query::Query;
use crate::text;
use crate::visit::Visit;

/// The head of a page: its title, and what can be done there.
pub(crate) fn head(title: &Markup, actions: &Markup) -> Markup {
    html! { header.head { h1 { (title) } div.actions { (actions) } } }
}

/// Links to the pages above this one: their paths below the root, and their names.
pub(crate) fn crumbs(visit: &Visit, above: &[(&str, &str)]) -> Markup {
    html! {
        p.crumbs {
            @for (place, (path, name)) in above.iter().enumerate() {
                @if place > 0 { " › " }
                a href=(visit.link(path)) { (name) }
            }
        }
    }
}

/// A moment, as how long ago it was. The script keeps it up to date.
pub(crate) fn ago(moment: Moment, now: Timestamp) -> Markup {
    html! { time datetime=(moment) title=(format!("{} UTC", text::moment(moment))) { (text::relative(moment.0, now)) } }
}

/// A moment that may be missing.
pub(crate) fn maybe_ago(moment: Option<Moment>, now: Timestamp) -> Markup {
    html! { @if let Some(moment) = moment { (ago(moment, now)) } @else { (none()) } }
}

/// A moment in full, and how long ago it was.
pub(crate) fn at(moment: Moment, now: Timestamp) -> Markup {
    html! { span.at { (text::moment(moment)) " " small { "UTC" } } " " span.quiet { "(" (ago(moment, now)) ")" } }
}

/// What stands for a missing value.
pub(crate) fn none() -> Markup {
    html! { span.none { span aria-hidden="true" { "–" } span.unseen { "none" } } }
}

/// The status of a delivery, by shape, text and colour.
pub(crate) fn status(status: DeliveryStatus) -> Markup {
    let (shape, tone) = match status {
        DeliveryStatus::Pending => ("◔", "wait"),
        DeliveryStatus::Succeeded => ("✓", "good"),
        DeliveryStatus::Dead => ("✕", "bad"),
        DeliveryStatus::Cancelled => ("–", "off"),
    };
    badge(shape, tone, status.as_str())
}

/// A state, by shape, text and colour. The tone is `good`, `bad`, `wait`, `warn` or `off`.
pub(crate) fn badge(shape: &str, tone: &str, word: &str) -> Markup {
    html! { span class={ "badge " (tone) } { span aria-hidden="true" { (shape) } " " (text::words(word)) } }
}

/// The status code of a response; `failed` is why there is none.
pub(crate) fn code(code: Option<u16>, failed: Option<&str>) -> Markup {
    html! {
        @match (code, failed) {
            (Some(code), _) => {
                span class={ "code " (if code < 300 { "good" } else if code < 500 { "warn" } else { "bad" }) } { (code) }
            }
            (None, Some(failed)) => { span.code.bad { (text::words(failed)) } }
            (None, None) => { (none()) }
        }
    }
}

/// An id as a short link to its page, such as `events/`. The whole id is its title.
pub(crate) fn id(visit: &Visit, folder: &str, id: impl std::fmt::Display) -> Markup {
    let id = id.to_string();
    html! { a.id href=(visit.link(&format!("{folder}/{}", segment(&id)))) title=(id) { (short(&id)) } }
}

/// An id that fits a table: its prefix and its last characters, in which ids of the same time differ.
pub(crate) fn short(id: &str) -> String {
    match id.split_once('_') {
        Some((prefix, rest)) if rest.len() == 26 && rest.is_ascii() => format!("{prefix}_…{}", &rest[18..]),
        _ => id.chars().take(40).collect(),
    }
}

/// A text with a button that copies it. Without the script there is no button.
pub(crate) fn copied(text: &str) -> Markup {
    html! { span.copied { code { (text) } button.copy type="button" data-copy=(text) hidden { "Copy" } } }
}

/// A URL, as a link if it is one of the web.
pub(crate) fn url(url: &str) -> Markup {
    html! {
        @if let Some(link) = crate::links::linkable(url) { a.url href=(link) rel="noreferrer noopener" target="_blank" { (url) } }
        @else { span.url { (url) } }
    }
}

/// One number of a row of them.
pub(crate) fn number(name: &str, value: &Markup, hint: &Markup) -> Markup {
    html! { div.card.number { span.name { (name) } span.value { (value) } small { (hint) } } }
}

/// Names and values.
pub(crate) fn facts(rows: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } } }
}

/// A page without rows: what it means, and a call that would change it.
pub(crate) fn empty(title: &str, hint: &str, curl: Option<&str>) -> Markup {
    html! {
        div.empty {
            h2 { (title) }
            p { (hint) }
            @if let Some(curl) = curl {
                div.sample { pre tabindex="0" { (curl) } button.copy type="button" data-copy="" hidden { "Copy" } }
            }
        }
    }
}

/// The links to the first and the next page of a list.
pub(crate) fn pages(visit: &Visit, path: &str, next_cursor: Option<&str>) -> Markup {
    let first = visit.query.get("cursor").is_some();
    html! {
        @if first || next_cursor.is_some() {
            nav.pages aria-label="Pages" {
                @if first { a href=(visit.link_with(path, &visit.query.without("cursor"))) rel="first" { "« Newest" } }
                @if let Some(cursor) = next_cursor {
                    a href=(visit.link_with(path, &visit.query.with("cursor", cursor))) rel="next" { "Older »" }
                }
            }
        }
    }
}

/// Hidden fields for these parameters, and for the chosen tenant.
pub(crate) fn hidden(visit: &Visit, query: &Query) -> Markup {
    html! {
        @for (name, value) in query.pairs() { input type="hidden" name=(name) value=(value); }
        @if let Some(tenant) = &visit.chosen { input type="hidden" name="tenant" value=(tenant); }
    }
}

/// A form with one button, which does something at once. `path` is below the root.
#[allow(dead_code, reason = "for the screens that are to come")]
pub(crate) fn action(visit: &Visit, path: &str, label: &str, key: Option<&str>) -> Markup {
    html! {
        form.inline method="post" action=(visit.link(path)) { button data-key=[key] { (label) } }
    }
}

/// The page that asks before something is done that cannot be undone. `path` is below the root, and so is `back`.
pub(crate) fn confirm(
    visit: &Visit,
    what: &Markup,
    path: &str,
    query: &Query,
    button: &str,
    back: &str,
) -> Markup {
    ask(visit, what, path, query, button, back, "danger")
}

/// The same for something that can be undone.
pub(crate) fn confirm_harmless(
    visit: &Visit,
    what: &Markup,
    path: &str,
    query: &Query,
    button: &str,
    back: &str,
) -> Markup {
    ask(visit, what, path, query, button, back, "primary")
}

fn ask(
    visit: &Visit,
    what: &Markup,
    path: &str,
    query: &Query,
    button: &str,
    back: &str,
    tone: &str,
) -> Markup {
    html! {
        div.panel.confirm {
            (what)
            form method="post" action=(visit.link(path)) {
                (hidden(visit, query))
                div.row {
                    button class=(tone) { (button) }
                    a.button.plain href=(visit.link(back)) { "Back" }
                }
            }
        }
    }
}

/// A field of a filter, with the values that it knows.
pub(crate) fn choice(
    visit: &Visit,
    name: &str,
    label: &str,
    words: impl Iterator<Item = &'static str>,
) -> Markup {
    let chosen = visit.query.get(name);
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                option value="" { "any" }
                @for word in words { option value=(word) selected[chosen == Some(word)] { (text::words(word)) } }
            }
        }
    }
}

/// A field of a filter with a text.
pub(crate) fn field(visit: &Visit, name: &str, label: &str, placeholder: &str) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) value=[visit.query.get(name)] placeholder=(placeholder) autocomplete="off" spellcheck="false";
        }
    }
}
