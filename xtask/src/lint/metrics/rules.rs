//! The alerting rules: their queries, tests and explanations.

use saphyr::{LoadableYamlNode, Yaml};

use super::Query;

/// The alerts of a file.
pub(super) struct Rules {
    place: String,
    alerts: Vec<Alert>,
}

struct Alert {
    name: String,
    expression: String,
    /// The summary, with its templates.
    summary: String,
    /// The URL or path of its runbook.
    runbook: String,
}

impl Rules {
    pub(super) fn of(place: &str, text: &str) -> Result<Self, String> {
        let documents = load(place, text)?;
        let rules = documents.iter().flat_map(|document| elements(document, "groups"));
        let alerts: Vec<Alert> = rules
            .flat_map(|group| elements(group, "rules"))
            .map(|rule| Alert {
                name: field(rule, "alert"),
                expression: field(rule, "expr"),
                summary: rule.as_mapping_get("annotations").map_or_else(String::new, |a| field(a, "summary")),
                runbook: rule.as_mapping_get("annotations").map_or_else(String::new, |a| field(a, "runbook")),
            })
            .collect();
        if alerts.is_empty() {
            return Err(format!("{place} has no alerts"));
        }
        Ok(Self { place: place.to_owned(), alerts })
    }

    pub(super) fn queries(&self) -> impl Iterator<Item = Query> {
        self.alerts.iter().map(|alert| Query {
            place: format!("{}, {}", self.place, alert.name),
            text: alert.expression.clone(),
            shows: shown(&alert.summary),
        })
    }

    /// Returns alerts that lack a test in which they fire, a test in which they do not, or a heading on the page.
    pub(super) fn violations(&self, tests_place: &str, tests: &str, page: &str, text: &str) -> Vec<String> {
        let cases = match cases(tests_place, tests) {
            Ok(cases) => cases,
            Err(problem) => return vec![problem],
        };
        let mut found = Vec::new();
        for Alert { name, runbook, .. } in &self.alerts {
            for (fires, verb) in [(true, "fires"), (false, "does not fire")] {
                if !cases.iter().any(|case| case.alert == *name && case.fires == fires) {
                    found.push(format!("{tests_place} has no test in which {name} {verb}"));
                }
            }
            let heading = text.lines().any(|line| {
                let title = line.trim_start_matches('#');
                title.len() < line.len() && title.trim() == name
            });
            if !heading {
                found.push(format!("{page} has no heading `{name}`"));
            }
            let expected = format!("{page}#{}", name.to_lowercase());
            if *runbook != expected {
                found.push(format!("{}, {name}: its runbook should be {expected}", self.place));
            }
        }
        found
    }
}

struct Case {
    alert: String,
    fires: bool,
}

fn cases(place: &str, text: &str) -> Result<Vec<Case>, String> {
    let documents = load(place, text)?;
    let tests = documents.iter().flat_map(|document| elements(document, "tests"));
    let cases = tests.flat_map(|test| elements(test, "alert_rule_test"));
    let fires = |case: &Yaml<'_>| elements(case, "exp_alerts").next().is_some();
    Ok(cases.map(|case| Case { alert: field(case, "alertname"), fires: fires(case) }).collect())
}

fn load<'a>(place: &str, text: &'a str) -> Result<Vec<Yaml<'a>>, String> {
    Yaml::load_from_str(text).map_err(|error| format!("{place} is not valid YAML: {error}"))
}

fn elements<'a, 'input>(value: &'a Yaml<'input>, name: &str) -> impl Iterator<Item = &'a Yaml<'input>> {
    value.as_mapping_get(name).and_then(Yaml::as_sequence).into_iter().flatten()
}

fn field(value: &Yaml<'_>, name: &str) -> String {
    value.as_mapping_get(name).and_then(Yaml::as_str).unwrap_or_default().to_owned()
}

/// The labels in `{{ $labels.… }}`.
fn shown(summary: &str) -> Vec<String> {
    let parts = summary.split("$labels.").skip(1);
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    parts.filter_map(|part| part.split(|character| !is_word(character)).next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
groups:
  - name: a
    rules:
      - alert: OneDown
        expr: up == 0
        annotations: {summary: '{{ $labels.instance }} of {{$labels.job}}', runbook: 'page.md#onedown'}
  - name: b
    rules:
      - alert: AllDown
        expr: |
          absent(up)
        annotations: {runbook: 'page.md#alldown'}
";

    const TESTS: &str = "
tests:
  - alert_rule_test:
      - {alertname: OneDown, exp_alerts: [{exp_labels: {}}]}
      - {alertname: AllDown, exp_alerts: []}
  - alert_rule_test:
      - {alertname: OneDown, exp_alerts: []}
      - {alertname: AllDown, exp_alerts: [{exp_labels: {}}]}
";

    const PAGE: &str = "# Page\n### OneDown\nSee AllDown.\n### AllDown\n";

    fn violations(rules: &str, tests: &str, page: &str) -> Vec<String> {
        Rules::of("rules.yml", rules).unwrap().violations("tests.yml", tests, "page.md", page)
    }

    #[test]
    fn queries_come_with_the_labels_of_their_summaries() {
        let rules = Rules::of("rules.yml", RULES).unwrap();
        let queries: Vec<_> = rules.queries().collect();
        assert_eq!(queries.len(), 2);
        assert_eq!((queries[0].place.as_str(), queries[0].text.as_str()), ("rules.yml, OneDown", "up == 0"));
        assert_eq!(queries[0].shows, ["instance", "job"]);
        assert_eq!(queries[1].text.trim(), "absent(up)");
    }

    #[test]
    fn every_alert_has_both_tests_and_a_page() {
        assert!(violations(RULES, TESTS, PAGE).is_empty());
        let silent = TESTS.replace("{alertname: AllDown, exp_alerts: [{exp_labels: {}}]}", "");
        let silent = violations(RULES, &silent.replace("      - \n", ""), PAGE);
        assert_eq!(silent, ["tests.yml has no test in which AllDown fires"]);
        let eager =
            TESTS.replace("{alertname: OneDown, exp_alerts: []}", "{alertname: Other, exp_alerts: []}");
        assert_eq!(violations(RULES, &eager, PAGE), ["tests.yml has no test in which OneDown does not fire"]);
        let untold = violations(RULES, TESTS, "# Page\n### OneDown\nAllDown\n### AllDownNow\n");
        assert_eq!(untold, ["page.md has no heading `AllDown`"]);
    }

    #[test]
    fn a_runbook_that_leads_elsewhere_is_found() {
        let astray = RULES.replace("page.md#alldown", "page.md#onedown");
        assert_eq!(
            violations(&astray, TESTS, PAGE),
            ["rules.yml, AllDown: its runbook should be page.md#alldown"]
        );
    }

    #[test]
    fn invalid_yaml_and_a_file_without_alerts_are_reported() {
        assert!(Rules::of("rules.yml", "groups: [").is_err());
        assert!(Rules::of("rules.yml", "groups: []").is_err());
        assert!(violations(RULES, "tests: [", PAGE)[0].contains("tests.yml is not valid YAML"));
    }
}
