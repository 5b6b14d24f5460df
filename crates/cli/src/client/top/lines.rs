//! The lines of a look, which a screen and a file share.

use std::fmt::Write as _;

use postrider_api::stats::QueueView;
use serde_json::Value;

use super::look::{Failing, Look, Rates};
use crate::client::output::cell;

/// How many failing subscribers a look names that is not on a screen.
const SHOWN: usize = 10;
/// The head of the table of failing subscribers.
pub(super) const HEAD: [&str; 3] = ["FAILURES", "BREAKER", "SUBSCRIBER"];

/// Returns what the lines are about, and the lines.
pub(super) fn lines(look: &Look, rates: Option<Rates>) -> Vec<(&'static str, String)> {
    let deliveries = &look.stats.deliveries;
    let rate =
        |of: fn(Rates) -> f64| rates.map_or_else(|| "-".to_owned(), |rates| format!("{:.1}/s", of(rates)));
    let latency = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value} ms"));
    let (p50, p95, p99) = (look.stats.latency_ms.p50, look.stats.latency_ms.p95, look.stats.latency_ms.p99);
    let subscribers = &look.stats.subscribers;
    let mut lines = vec![
        (
            "deliveries",
            format!(
                "created {}  succeeded {}  dead {}",
                rate(|rates| rates.created),
                rate(|rates| rates.succeeded),
                rate(|rates| rates.dead)
            ),
        ),
        (
            "in all",
            format!(
                "{} pending  {} succeeded  {} dead  {} cancelled",
                deliveries.pending, deliveries.succeeded, deliveries.dead, deliveries.cancelled
            ),
        ),
        ("latency", format!("p50 {}  p95 {}  p99 {}", latency(p50), latency(p95), latency(p99))),
        ("subscribers", format!("{} active of {}", subscribers.active, subscribers.total)),
    ];
    let queue = look.stats.queue.as_ref();
    lines.extend(queue.map(|QueueView { ready, scheduled, held, running, oldest_ready_seconds }| {
        let waits = format!("oldest {oldest_ready_seconds:.1} s");
        ("queue", format!("{ready} ready  {scheduled} scheduled  {held} held  {running} running  {waits}"))
    }));
    lines
}

/// Returns the cells of a failing subscriber, under [`HEAD`].
pub(super) fn row(failing: &Failing) -> [String; 3] {
    let text = |text: &str| cell(&Value::from(text), 80);
    let name = failing.uid.as_deref().unwrap_or(&failing.id);
    [
        failing.breaker.failures.to_string(),
        text(&failing.breaker.state),
        format!("{}  {}", text(name), text(&failing.url)),
    ]
}

/// Returns the whole look as text.
pub(super) fn text(look: &Look, rates: Option<Rates>) -> String {
    let mut text = String::new();
    for (name, line) in lines(look, rates) {
        let _ = writeln!(text, "{name:<12} {line}");
    }
    if look.worst.is_empty() {
        text.push_str("\nno subscriber is failing");
        return text;
    }
    let head = HEAD.map(str::to_owned);
    for [failures, breaker, subscriber] in [head].into_iter().chain(look.worst.iter().take(SHOWN).map(row)) {
        let _ = write!(text, "\n{failures:<9} {breaker:<10} {subscriber}");
    }
    text
}
