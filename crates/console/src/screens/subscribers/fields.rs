//! A subscriber's settings as names and values.

use maud::{Markup, html};
use postrider_api::subscriber::SubscriberView;
use postrider_core::policy::Span;

use crate::{json, parts, text};

type Fact = (&'static str, Markup);

/// What stands for a field that follows the deployment's settings.
fn default() -> Markup {
    html! { span.quiet { "as the deployment says" } }
}

fn span(span: Span) -> String {
    text::seconds(span.0.as_secs_f64())
}

/// The policy.
pub(super) fn policy(subscriber: &SubscriberView) -> Vec<Fact> {
    let policy = &subscriber.policy;
    let or_default = |value: Option<String>| value.map_or_else(default, |value| html! { (value) });
    let mut rows = vec![
        ("Attempts", or_default(policy.max_attempts.map(|attempts| attempts.to_string()))),
        ("Delays", or_default(delays(subscriber))),
        ("Timeout", or_default(policy.timeout.map(span))),
        ("At once", or_default(policy.concurrency.map(|number| number.to_string()))),
        (
            "Rate limit",
            policy.rate_limit.map_or_else(parts::none, |limit| {
                html! { (limit.per_second) " per second" @if let Some(burst) = limit.burst { ", bursts of " (burst) } }
            }),
        ),
        ("In order", html! { (if policy.ordered == Some(true) { "yes" } else { "no" }) }),
    ];
    if let Some(method) = policy.method {
        rows.push(("Method", html! { (method) }));
    }
    if let Some(compression) = policy.compression {
        rows.push(("Compression", html! { (compression) }));
    }
    if let Some(percent) = policy.jitter_percent {
        rows.push(("Jitter", html! { "up to " (percent) " %" }));
    }
    rows
}

fn delays(subscriber: &SubscriberView) -> Option<String> {
    let policy = &subscriber.policy;
    if let Some(schedule) = &policy.schedule {
        return Some(schedule.iter().map(|delay| span(*delay)).collect::<Vec<_>>().join(", "));
    }
    policy.exponential.map(|growing| {
        format!("{}, growing by {} up to {}", span(growing.base), growing.factor, span(growing.cap))
    })
}

/// What is done with events before they are sent.
pub(super) fn shape(subscriber: &SubscriberView) -> Vec<Fact> {
    let mut rows = vec![("Format", html! { (subscriber.format) })];
    if let Some(transform) = &subscriber.transform {
        let text = serde_json::to_string(transform).unwrap_or_default();
        rows.push(("Transform", json::shown(&text)));
    }
    if let Some(name) = subscriber.plugin.as_ref().and_then(|plugin| plugin.name.as_ref()) {
        rows.push(("Plugin", html! { (name) }));
    }
    rows
}

/// What tells who the subscriber is.
pub(super) fn identity(subscriber: &SubscriberView) -> Vec<Fact> {
    let mut rows = Vec::new();
    match &subscriber.headers {
        Some(names) if names.is_empty() => {}
        Some(names) => rows.push(("Headers", html! { code { (names.join(", ")) } })),
        None => rows.push(("Headers", html! { "the key that decrypts them is missing" })),
    }
    if let Some(kind) = subscriber.auth.as_ref().and_then(|auth| auth.kind) {
        rows.push(("Authentication", html! { (text::words(kind.as_str())) }));
    }
    if let Some(url) = &subscriber.notify_url {
        rows.push(("Notices", html! { (url) }));
    }
    if let Some(email) = &subscriber.notify_email {
        rows.push(("Notices by mail", html! { (email) }));
    }
    if !subscriber.metadata.is_empty() {
        let pairs = subscriber.metadata.iter().map(|(name, value)| format!("{name}={value}"));
        rows.push(("Metadata", html! { (pairs.collect::<Vec<_>>().join(", ")) }));
    }
    rows
}
