use super::*;
use std::collections::BTreeSet;

#[test]
fn names_follow_the_rules_of_prometheus() {
    for metric in ALL {
        let name = metric.name;
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(plain), "{name}: lower case and underscores");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}: _total is for counters");
        for reserved in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(reserved), "{name}: {reserved} is reserved for histograms");
        }
        assert!(metric.help.ends_with('.'), "{name}: its help is a sentence");
        for label in metric.labels {
            assert!(!["le", "quantile"].contains(label) && label.chars().all(plain), "{name}: {label}");
        }
        if let Kind::Histogram(bounds) = metric.kind {
            assert!(bounds.is_sorted() && bounds.iter().all(|bound| *bound > 0.0), "{name}: buckets");
        }
    }
}

#[test]
fn names_that_dashboards_rely_on_exist_once() {
    let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len(), "a name occurs twice");
    for name in [
        "webhook_events_total",
        "webhook_deliveries_total",
        "webhook_delivery_duration_seconds",
        "webhook_delivery_latency_seconds",
        "webhook_retry", // its count is webhook_retry_count
        "webhook_queue_depth",
        "webhook_queue_oldest_ready_seconds",
        "webhook_in_flight",
        "webhook_dispatch_duration_seconds",
        "webhook_claim_duration_seconds",
        "webhook_leases_lost_total",
        "webhook_jobs_rescued_total",
    ] {
        assert!(names.contains(name), "{name} is missing");
    }
}

#[test]
fn times_range_from_a_millisecond_to_a_minute() {
    assert_eq!(SECONDS.first(), Some(&0.001));
    assert_eq!(SECONDS.last(), Some(&60.0));
}
