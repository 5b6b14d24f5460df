//! The queries of a Grafana dashboard.

use serde_json::Value;

use super::Query;

/// Returns every query of a dashboard: those of its panels, annotations and variables.
pub(super) fn queries(place: &str, text: &str) -> Result<Vec<Query>, String> {
    let dashboard: Value = serde_json::from_str(text).map_err(|error| format!("{place}: {error}"))?;
    let mut found = Vec::new();
    collect(&dashboard, place, &mut found);
    if found.is_empty() { Err(format!("{place} has no queries")) } else { Ok(found) }
}

fn collect(value: &Value, place: &str, found: &mut Vec<Query>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, place, found)),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            let title = text("title").or_else(|| text("name"));
            let place = title.map_or_else(|| place.to_owned(), |title| format!("{place}, {title}"));
            if let Some(expression) = text("expr") {
                let legend = text("legendFormat").or_else(|| text("titleFormat")).unwrap_or_default();
                let shows = braced(legend);
                found.push(Query { place: place.clone(), text: expression.to_owned(), shows });
            }
            found.extend(text("definition").and_then(|definition| variable(&place, definition)));
            fields.values().for_each(|field| collect(field, &place, found));
        }
        _ => {}
    }
}

/// `label_values(metric, label)`: the values of a variable.
fn variable(place: &str, definition: &str) -> Option<Query> {
    let arguments = definition.trim().strip_prefix("label_values(")?.strip_suffix(')')?;
    let (series, label) = arguments.rsplit_once(',')?;
    let shows = vec![label.trim().to_owned()];
    Some(Query { place: place.to_owned(), text: series.trim().to_owned(), shows })
}

/// The names in `{{…}}`.
fn braced(legend: &str) -> Vec<String> {
    let parts = legend.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    parts.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queries_are_found_with_their_places() {
        let text = r#"{
            "title": "Board",
            "annotations": {"list": [{"name": "Starts", "expr": "changes(a[1m])", "titleFormat": "{{job}} starts"}]},
            "templating": {"list": [{"name": "type", "definition": "label_values(b{x=\"1,2\"}, event_type)"}]},
            "panels": [
                {"type": "row", "title": "Row", "panels": [{"title": "Inner", "targets": [{"expr": "c"}]}]},
                {"title": "Two", "targets": [
                    {"expr": "d", "legendFormat": "{{ method }} {{route}}"},
                    {"expr": "e", "legendFormat": "p95"}
                ]}
            ]
        }"#;
        let queries = queries("b.json", text).unwrap();
        let mut seen: Vec<_> =
            queries.iter().map(|query| (query.text.as_str(), query.shows.join(" "))).collect();
        seen.sort_unstable();
        let expected = [
            ("b{x=\"1,2\"}", "event_type"),
            ("c", ""),
            ("changes(a[1m])", "job"),
            ("d", "method route"),
            ("e", ""),
        ];
        assert_eq!(seen, expected.map(|(text, shows)| (text, shows.to_owned())));
        let inner = queries.iter().find(|query| query.text == "c").unwrap();
        assert_eq!(inner.place, "b.json, Board, Row, Inner");
    }

    #[test]
    fn a_dashboard_without_queries_is_refused() {
        assert!(queries("b.json", "{}").is_err());
        assert!(queries("b.json", "{").is_err());
    }
}
