//! The metrics of the programs, read from the source of `postrider-telemetry`. A dependency on that crate would make
//! xtask slow to build.

use std::collections::{BTreeMap, BTreeSet};

use super::Query;

/// The metrics that metrics-process reports on Linux. They have no labels.
const PROCESS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
];

/// The labels that Prometheus adds to every series.
const OF_TARGET: &[&str] = &["job", "instance"];

/// All metrics, by name.
#[derive(Debug)]
pub(super) struct Catalogue {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Debug, PartialEq)]
struct Metric {
    /// The constant that holds its name; `None` for a metric of another library.
    constant: Option<String>,
    is_histogram: bool,
    labels: Vec<String>,
    /// Whether any program records it.
    is_recorded: bool,
}

impl Catalogue {
    /// Reads `pub const NAME: &str = "…";` and the list `ALL` of `metric(NAME, kind, unit, &[labels], …)`.
    pub(super) fn of(source: &str) -> Result<Self, String> {
        let constants: BTreeMap<&str, &str> = source.lines().filter_map(constant).collect();
        let value_of = |name: &str| {
            let value = constants.get(name).map(|value| (*value).to_owned());
            value.ok_or_else(|| format!("{name} is in ALL but is not a `pub const {name}: &str = \"…\";`"))
        };
        let (_, list) = source.split_once("pub const ALL:").ok_or("there is no `pub const ALL`")?;
        let list = list.split_once("\n};").map_or(list, |(list, _)| list);
        let mut metrics = BTreeMap::new();
        for (start, call) in list.match_indices("metric(") {
            if list[..start].ends_with("fn ") {
                continue;
            }
            let arguments = &list[start + call.len()..];
            let (name, rest) = arguments.split_once(',').ok_or("a metric of ALL has no kind")?;
            let (head, rest) = rest.split_once("&[").ok_or("a metric of ALL has no list of labels")?;
            let (labels, _) = rest.split_once(']').ok_or("a list of labels of ALL has no end")?;
            let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
            let metric = Metric {
                constant: Some(name.trim().to_owned()),
                is_histogram: head.trim_start().starts_with("Histogram"),
                labels: labels.map(value_of).collect::<Result<_, _>>()?,
                is_recorded: source.contains(&format!("!({}", name.trim())),
            };
            metrics.insert(value_of(name.trim())?, metric);
        }
        if metrics.is_empty() {
            return Err("no metric was found in ALL".to_owned());
        }
        for name in PROCESS.iter().chain(["up"].iter()) {
            let metric =
                Metric { constant: None, is_histogram: false, labels: Vec::new(), is_recorded: true };
            metrics.insert((*name).to_owned(), metric);
        }
        Ok(Self { metrics })
    }

    /// Marks the metrics that a source records.
    pub(super) fn note_recorded(&mut self, source: &str) {
        for metric in self.metrics.values_mut() {
            let Some(constant) = &metric.constant else { continue };
            let path = format!("metric::{constant}");
            metric.is_recorded |= source.match_indices(&path).any(|(start, path)| {
                let after = source[start + path.len()..].chars().next();
                !after.is_some_and(|after| after.is_alphanumeric() || after == '_')
            });
        }
    }

    /// Returns the labels of a series, those of its target included; `None` if no metric has this series.
    pub(super) fn labels_of(&self, series: &str) -> Option<BTreeSet<&str>> {
        let (metric, is_bucket) = self.metric_of(series)?;
        let own = metric.labels.iter().map(String::as_str);
        Some(own.chain(OF_TARGET.iter().copied()).chain(is_bucket.then_some("le")).collect())
    }

    /// Returns the metrics that queries name although no program records them yet.
    pub(super) fn shown_but_not_recorded(&self, queries: &[Query]) -> Vec<&str> {
        let is_shown = |name: &str| queries.iter().any(|query| names(&query.text, name));
        let missing = self.metrics.iter().filter(|(name, metric)| !metric.is_recorded && is_shown(name));
        missing.map(|(name, _)| name.as_str()).collect()
    }

    /// Returns a message for each metric that the page does not explain.
    pub(super) fn missing_in(&self, page: &str, text: &str) -> Vec<String> {
        let missing = self.metrics.keys().filter(|name| !text.contains(&format!("`{name}")));
        missing.map(|name| format!("{page} does not say what `{name}` means")).collect()
    }

    fn metric_of(&self, series: &str) -> Option<(&Metric, bool)> {
        if let Some(metric) = self.metrics.get(series) {
            // A histogram itself is no series, only its buckets, sum and count are.
            return (!metric.is_histogram).then_some((metric, false));
        }
        let (name, part) = series.rsplit_once('_')?;
        let metric = self.metrics.get(name).filter(|metric| metric.is_histogram)?;
        ["bucket", "sum", "count"].contains(&part).then_some((metric, part == "bucket"))
    }
}

fn constant(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
    Some((name, rest.strip_suffix("\";")?))
}

/// Returns whether a query names a metric or one of its series.
fn names(query: &str, metric: &str) -> bool {
    query.match_indices(metric).any(|(start, _)| {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        !query[..start].ends_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
/// Events.
pub const EVENTS: &str = "webhook_events_total";
pub const TIME: &str = "webhook_time_seconds";
pub const EVENT_TYPE: &str = "event_type";
pub const STATE: &str = "state";
pub const ALL: &[Metric] = {
    const fn metric(name: &'static str, labels: &'static [&'static str]) -> Metric {}
    &[
        metric(EVENTS, Counter, COUNT, &[EVENT_TYPE, STATE], Server, "Events."),
        metric(
            TIME,
            Histogram(SECONDS),
            TIME,
            &[],
            Worker,
            "Time, such as metric.",
        ),
    ]
};
#[test] fn all() { metric(NOTHING, Counter, COUNT, &[], Server, "") }
"#;

    #[test]
    fn metrics_are_read_with_their_labels() {
        let catalogue = Catalogue::of(SOURCE).unwrap();
        let labels =
            |series| catalogue.labels_of(series).map(|labels| labels.into_iter().collect::<Vec<_>>());
        assert_eq!(labels("webhook_events_total").unwrap(), ["event_type", "instance", "job", "state"]);
        assert_eq!(labels("webhook_time_seconds_bucket").unwrap(), ["instance", "job", "le"]);
        assert_eq!(labels("webhook_time_seconds_count").unwrap(), ["instance", "job"]);
        assert_eq!(labels("process_open_fds").unwrap(), ["instance", "job"]);
        for dead in
            ["webhook_time_seconds", "webhook_events_total_sum", "webhook_events", "nothing", "up_sum"]
        {
            assert_eq!(labels(dead), None, "{dead}");
        }
    }

    #[test]
    fn a_source_that_cannot_be_parsed_is_reported() {
        assert!(Catalogue::of("").unwrap_err().contains("ALL"));
        let renamed = SOURCE.replace("pub const EVENTS", "pub const OTHERS");
        assert!(Catalogue::of(&renamed).unwrap_err().contains("EVENTS"));
        let unlabelled = SOURCE.replace("pub const STATE", "const STATE");
        assert!(Catalogue::of(&unlabelled).unwrap_err().contains("STATE"));
        let empty = "pub const ALL: &[Metric] = {\n};";
        assert!(Catalogue::of(empty).unwrap_err().contains("no metric"));
    }

    #[test]
    fn a_metric_that_is_shown_but_not_recorded_is_found() {
        let mut catalogue = Catalogue::of(SOURCE).unwrap();
        let query = |text: &str| Query { place: String::new(), text: text.to_owned(), shows: Vec::new() };
        let queries = [query("rate(webhook_time_seconds_count[5m])"), query("my_webhook_events_total")];
        assert_eq!(catalogue.shown_but_not_recorded(&queries), ["webhook_time_seconds"]);
        catalogue.note_recorded("gauge!(metric::TIMES)");
        assert_eq!(catalogue.shown_but_not_recorded(&queries), ["webhook_time_seconds"]);
        catalogue.note_recorded("histogram!(metric::TIME).record(1.0)");
        assert!(catalogue.shown_but_not_recorded(&queries).is_empty());
    }

    #[test]
    fn a_page_explains_every_metric() {
        let catalogue = Catalogue::of(SOURCE).unwrap();
        let page = format!("`webhook_events_total{{event_type}}` `up` `{}`", PROCESS.join("` `"));
        let missing = catalogue.missing_in("page.md", &page);
        assert_eq!(missing, ["page.md does not say what `webhook_time_seconds` means"]);
    }
}
