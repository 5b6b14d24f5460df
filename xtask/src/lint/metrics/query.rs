//! Checks one Prometheus expression: it parses, and every series and label in it exists.

use std::{collections::BTreeSet, convert::Infallible};

use promql_parser::{
    parser::{self, AggregateExpr, BinaryExpr, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

use super::{Query, catalogue::Catalogue};

/// Grafana's variables for durations, and a duration to parse in their place.
const DURATIONS: [(&str, &str); 4] =
    [("$__rate_interval", "5m"), ("$__interval", "1m"), ("$__range", "1h"), ("$__auto", "1m")];

/// Returns the series and labels of a query that do not exist.
pub(super) fn violations(query: &Query, catalogue: &Catalogue) -> Vec<String> {
    let mut text = query.text.clone();
    for (variable, duration) in DURATIONS {
        text = text.replace(variable, duration);
    }
    let told = |problem: String| format!("{}: {problem}", query.place);
    let expression = match parser::parse(&text) {
        Ok(expression) => expression,
        Err(error) => return vec![told(format!("`{}` is not valid PromQL: {error}", query.text))],
    };
    let mut names = Names { catalogue, known: BTreeSet::new(), grouping: Vec::new(), problems: Vec::new() };
    let Ok(_) = walk_expr(&mut names, &expression);
    let Names { known, grouping, mut problems, .. } = names;
    // Without its series, a label cannot be checked.
    let labels = grouping.iter().chain(&query.shows).filter(|_| problems.is_empty()).collect::<BTreeSet<_>>();
    for label in labels {
        if !known.contains(label.as_str()) && label != "alertname" {
            problems.push(format!("no series of `{}` has a label `{label}`", query.text));
        }
    }
    problems.into_iter().map(told).collect()
}

struct Names<'a> {
    catalogue: &'a Catalogue,
    /// The labels of all series in the query.
    known: BTreeSet<String>,
    /// The labels that series are grouped or matched by.
    grouping: Vec<String>,
    problems: Vec<String>,
}

impl ExprVisitor for Names<'_> {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.select(selector),
            Expr::MatrixSelector(selector) => self.select(&selector.vs),
            Expr::Aggregate(AggregateExpr { modifier: Some(modifier), .. }) => {
                self.grouping.extend(modifier.labels().labels.iter().cloned());
            }
            Expr::Binary(BinaryExpr { modifier: Some(modifier), .. }) => {
                let matching = modifier.matching.iter().flat_map(|matching| &matching.labels().labels);
                let taken = modifier.card.labels().into_iter().flat_map(|labels| &labels.labels);
                self.grouping.extend(matching.chain(taken).cloned());
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Names<'_> {
    fn select(&mut self, selector: &VectorSelector) {
        let Some(name) = &selector.name else {
            return self.problems.push(format!("`{selector}` names no metric"));
        };
        let Some(labels) = self.catalogue.labels_of(name) else {
            return self.problems.push(format!("`{name}` is a dead series: nothing reports it"));
        };
        let matchers = &selector.matchers;
        for matcher in matchers.matchers.iter().chain(matchers.or_matchers.iter().flatten()) {
            if !labels.contains(matcher.name.as_str()) {
                self.problems.push(format!("`{name}` has no label `{}`", matcher.name));
            }
        }
        self.known.extend(labels.into_iter().map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
pub const EVENTS: &str = "webhook_events_total";
pub const TIME: &str = "webhook_time_seconds";
pub const EVENT_TYPE: &str = "event_type";
pub const ALL: &[Metric] = {
    &[
        metric(EVENTS, Counter, COUNT, &[EVENT_TYPE], Server, ""),
        metric(TIME, Histogram(SECONDS), COUNT, &[], Server, ""),
    ]
};"#;

    fn problems(text: &str, shows: &[&str]) -> String {
        let shows = shows.iter().map(|label| (*label).to_owned()).collect();
        let query = Query { place: "panel".to_owned(), text: text.to_owned(), shows };
        violations(&query, &Catalogue::of(SOURCE).unwrap()).join("\n")
    }

    #[test]
    fn existing_series_and_labels_pass() {
        for text in [
            "sum by (event_type) (rate(webhook_events_total{event_type=~\"$event_type\", job!=\"x\"}[$__rate_interval]))",
            "histogram_quantile(0.9, sum by (le) (rate(webhook_time_seconds_bucket{le=\"1\"}[5m])))",
            "absent(up{job=\"a\"} == 1) and on (instance) process_open_fds / process_max_fds > 0.8",
            "topk(3, webhook_events_total unless webhook_events_total offset 30m)",
            "max_over_time(sum(webhook_events_total)[5m:])",
        ] {
            assert_eq!(problems(text, &["instance"]), "", "{text}");
        }
    }

    #[test]
    fn an_unknown_series_is_found_in_any_expression() {
        for text in [
            "webhook_event_total",
            "rate(webhook_event_total[5m])",
            "1 - (sum(webhook_events_total) / count(webhook_event_total))",
            "up unless on () webhook_event_total > 0",
            "max_over_time(sum(webhook_event_total)[5m:])",
            "quantile_over_time(0.5, webhook_event_total[5m])",
        ] {
            assert!(problems(text, &[]).contains("`webhook_event_total` is a dead series"), "{text}");
        }
        assert!(problems("webhook_time_seconds", &[]).contains("dead series"), "a histogram is no series");
    }

    #[test]
    fn unknown_labels_are_found() {
        let selected = problems("webhook_events_total{status=\"x\"}", &[]);
        assert_eq!(selected, "panel: `webhook_events_total` has no label `status`");
        assert!(problems("sum by (state) (webhook_events_total)", &[]).contains("`state`"));
        assert!(problems("up * on (state) group_left (version) up", &[]).contains("`version`"));
        assert!(problems("up", &["subscriber"]).contains("`subscriber`"));
        assert!(problems("webhook_time_seconds_sum{le=\"1\"}", &[]).contains("no label `le`"));
    }

    #[test]
    fn invalid_promql_is_reported() {
        assert!(problems("sum(rate(up[5m])", &[]).contains("is not valid PromQL"));
        assert!(problems("{job=\"x\"}", &[]).contains("names no metric"));
    }
}
