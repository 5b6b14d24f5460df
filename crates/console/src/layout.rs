//! The frame of a page: head, search box, navigation, notices and the help for keys.

use maud::{DOCTYPE, Markup, html};
use postrider_core::TenantId;
use postrider_core::key::Scope;
use postrider_core::portal::Portal;

use crate::api::Session;
use crate::assets::Asset;
use crate::links::Base;

/// Where a page belongs in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Now,
    Events,
    Deliveries,
    DeadLetters,
    Tail,
    Subscribers,
    EventTypes,
    Queue,
    Replays,
    Keys,
    Tenants,
    Audit,
    Settings,
    Sessions,
    /// A page that the navigation does not show.
    None,
}

/// What surrounds the contents of a page.
pub(crate) struct Frame<'a> {
    pub(crate) base: Base,
    pub(crate) title: &'a str,
    pub(crate) section: Section,
    /// `None` on the sign-in form.
    pub(crate) session: Option<&'a Session>,
    pub(crate) chosen: Option<&'a TenantId>,
    pub(crate) search: Option<&'a str>,
    pub(crate) notice: Option<&'a str>,
}

/// A line of the navigation: its section, its path, its name, and the scope without which it is not shown.
type Line = (Section, &'static str, &'static str, Option<Scope>);

/// The navigation, group by group.
const GROUPS: [(&str, &[Line]); 3] = [
    (
        "Traffic",
        &[
            (Section::Now, "", "Now", None),
            (Section::Events, "events", "Events", Some(Scope::EventsRead)),
            (Section::Deliveries, "deliveries", "Deliveries", Some(Scope::DeliveriesRead)),
            (Section::DeadLetters, "dead-letters", "Dead letters", Some(Scope::DeliveriesRead)),
            (Section::Tail, "tail", "Live tail", Some(Scope::TailRead)),
            (Section::Replays, "replays", "Replays", Some(Scope::DeliveriesRead)),
        ],
    ),
    (
        "Endpoints",
        &[
            (Section::Subscribers, "subscribers", "Subscribers", Some(Scope::SubscribersRead)),
            (Section::EventTypes, "event-types", "Event types", Some(Scope::TypesRead)),
            (Section::Queue, "queue", "Queue", Some(Scope::QueueManage)),
        ],
    ),
    (
        "Access",
        &[
            (Section::Keys, "keys", "Keys", Some(Scope::KeysManage)),
            (Section::Tenants, "tenants", "Tenants", Some(Scope::TenantsManage)),
            (Section::Audit, "audit", "Audit", Some(Scope::AuditRead)),
            (Section::Settings, "settings", "Settings", Some(Scope::TenantsManage)),
        ],
    ),
];

/// What a page says after an action. The word is in the link, the text is not, so that no link can put words into a page.
pub(crate) fn notice(word: &str) -> Option<&'static str> {
    Some(match word {
        "retried" => "The delivery is pending again.",
        "cancelled" => "The delivery is cancelled.",
        "erased" => "The payload is being erased.",
        "requeued" => "The dead letters are pending again.",
        "deleted" => "Deleted.",
        "saved" => "Saved.",
        "created" => "Created.",
        "replaying" => "The replay has begun.",
        "cancelling" => "The cancellation has begun.",
        "paused" => "Paused.",
        "on" => "Switched on.",
        "resumed" => "Resumed.",
        "activated" => "The subscriber is active.",
        "deactivated" => "The subscriber is not active.",
        "tested" => "A test event is on its way.",
        "rotated" => "Rotated.",
        "revoked" => "Revoked.",
        "stopped" => "Cancelled.",
        _ => return None,
    })
}

/// Renders a page.
pub(crate) fn page(frame: &Frame<'_>, main: &Markup) -> Markup {
    if let Some(portal) = frame.session.and_then(|session| session.portal.as_deref()) {
        return portal_page(frame, portal, main);
    }
    let Frame { base, title, section, session, .. } = *frame;
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(base, title))
            body.bare[session.is_none()] data-base=(base.as_str()) {
                a.skip href="#main" { "Skip to content" }
                @if let Some(session) = session {
                    (top(frame, session))
                    (navigation(frame, session))
                }
                main id="main" tabindex="-1" data-section=(format!("{section:?}")) {
                    @if let Some(text) = frame.notice.and_then(notice) {
                        p.notice role="status" { (text) }
                    }
                    (main)
                }
                @if session.is_some() { (help()) }
            }
        }
    }
}

/// Renders a page of the portal, which knows no navigation and has the colours of its theme.
fn portal_page(frame: &Frame<'_>, portal: &Portal, main: &Markup) -> Markup {
    let base = frame.base;
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_with(base, frame.title, !portal.theme.is_empty()))
            body.portal {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href=(base.to("endpoints")) { "Webhooks" }
                    @if let Some(url) = &portal.return_url { a.back href=(url.as_str()) rel="noreferrer" target="_top" { "Back" } }
                    form.inline method="post" action=(base.to("logout")) { button.small { "Sign out" } }
                }
                main id="main" tabindex="-1" {
                    @if let Some(text) = frame.notice.and_then(notice) {
                        p.notice role="status" { (text) }
                    }
                    (main)
                }
            }
        }
    }
}

/// The page that asks again for itself, after a link on another site.
pub(crate) fn again(base: Base) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="0";
                title { "Postrider" }
                link rel="icon" href=(Asset::Icon.link(base));
            }
            body { p { a href="" { "Continue to Postrider" } } }
        }
    }
}

fn head(base: Base, title: &str) -> Markup {
    head_with(base, title, false)
}

/// The head of a page, and the stylesheet of the portal's theme.
pub(crate) fn head_with(base: Base, title: &str, themed: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            title { (title) " · Postrider" }
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            link rel="icon" type="image/svg+xml" href=(Asset::Icon.link(base));
            link rel="stylesheet" href=(Asset::Style.link(base));
            @if themed { link rel="stylesheet" href=(base.to("theme.css")); }
            script src=(Asset::Script.link(base)) defer {}
        }
    }
}

fn top(frame: &Frame<'_>, session: &Session) -> Markup {
    let base = frame.base;
    let tenant = session.tenant.as_ref().or(frame.chosen);
    let keep = |path: &str| match frame.chosen {
        Some(tenant) => base.to(&format!("{path}?tenant={tenant}")),
        None => base.to(path),
    };
    html! {
        header.top {
            a.brand href=(keep("")) { img src=(Asset::Icon.link(base)) alt="" width="22" height="22"; span { "Postrider" } }
            form.search role="search" aria-label="Find" action=(base.to("search")) {
                label.unseen for="q" { "Search by id, or by words such as status:dead" }
                input id="q" name="q" type="search" value=[frame.search] maxlength="500" autocomplete="off" spellcheck="false"
                    placeholder="Search: an id, or status:dead code:5xx type:order.* since:1h";
                @if let Some(tenant) = frame.chosen { input type="hidden" name="tenant" value=(tenant); }
                kbd aria-hidden="true" { "/" }
            }
            details.account {
                summary {
                    span.who { (session.key_name) }
                    span.tenant { (tenant.map_or("default tenant", TenantId::as_str)) }
                }
                div.menu {
                    @if session.is_operator() {
                        form method="get" {
                            label for="tenant" { "Tenant" }
                            div.row {
                                input id="tenant" name="tenant" value=[frame.chosen] placeholder="default" maxlength="64"
                                    pattern="[a-z0-9_\\-]{1,64}" autocomplete="off" spellcheck="false";
                                button { "Show" }
                            }
                        }
                    }
                    a href=(keep("sessions")) { "Sessions" }
                    form method="post" action=(base.to("logout")) { button { "Sign out" } }
                }
            }
        }
    }
}

fn navigation(frame: &Frame<'_>, session: &Session) -> Markup {
    let keep = |path: &str| match frame.chosen {
        Some(tenant) => frame.base.to(&format!("{path}?tenant={tenant}")),
        None => frame.base.to(path),
    };
    let is_seen = |line: &Line| line.3.is_none_or(|scope| session.may(scope));
    html! {
        nav.sections aria-label="Console" {
            @for (group, lines) in GROUPS {
                @if lines.iter().any(is_seen) {
                    h2 { (group) }
                    ul {
                        @for line in lines.iter().filter(|line| is_seen(line)) {
                            li { a href=(keep(line.1)) aria-current=[(line.0 == frame.section).then_some("page")] { (line.2) } }
                        }
                    }
                }
            }
        }
    }
}

/// The keys that the script knows. It opens this with `?`.
fn help() -> Markup {
    const KEYS: [(&str, &str); 8] = [
        ("/", "search"),
        ("j", "next row"),
        ("k", "previous row"),
        ("Enter", "open the row"),
        ("r", "retry or replay"),
        ("x", "cancel"),
        ("c", "copy as curl, or the id of the row"),
        ("?", "this help"),
    ];
    html! {
        dialog id="help" aria-labelledby="help-title" {
            h2 id="help-title" { "Keys" }
            dl.keys {
                @for (key, what) in KEYS { div { dt { kbd { (key) } } dd { (what) } } }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}
