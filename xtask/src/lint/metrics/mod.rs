//! Compares the metrics named in `deploy/` and `docs/` with those that the programs record.

mod catalogue;
mod dashboard;
mod promtool;
mod query;
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use self::catalogue::Catalogue;
pub(super) use self::promtool::promtool_is_clean;
use super::source;
use crate::Error;

const METRICS: &str = "crates/telemetry/src/metric.rs";
const DASHBOARDS: &str = "deploy/grafana/dashboards";
const RULES: &str = "deploy/prometheus/alerts.yml";
const RULE_TESTS: &str = "deploy/prometheus/alerts_test.yml";
const PAGE: &str = "docs/operations.md";

/// A Prometheus expression and its place.
struct Query {
    place: String,
    text: String,
    /// The labels that its legend or summary shows.
    shows: Vec<String>,
}

/// Returns panels and alerts that name a series no program reports, and metrics and alerts that the operations page
/// omits.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let metrics = read(root, METRICS)?;
    let mut catalogue = match Catalogue::of(&metrics) {
        Ok(catalogue) => catalogue,
        Err(problem) => return Ok(vec![format!("{METRICS}: {problem}")]),
    };
    for folder in source::folders(&root.join("crates"))? {
        source::each(&folder, &mut |path, source| {
            if !path.ends_with(METRICS) {
                catalogue.note_recorded(source);
            }
        })?;
    }

    let mut found = Vec::new();
    let mut queries = Vec::new();
    for path in dashboards(root)? {
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match dashboard::queries(&place, &text) {
            Ok(of_dashboard) => queries.extend(of_dashboard),
            Err(problem) => found.push(problem),
        }
    }
    match rules::Rules::of(RULES, &read(root, RULES)?) {
        Ok(rules) => {
            let tests = read(root, RULE_TESTS)?;
            found.extend(rules.violations(RULE_TESTS, &tests, PAGE, &read(root, PAGE)?));
            queries.extend(rules.queries());
        }
        Err(problem) => found.push(problem),
    }
    for query in &queries {
        found.extend(query::violations(query, &catalogue));
    }
    found.extend(catalogue.missing_in(PAGE, &read(root, PAGE)?));
    for name in catalogue.shown_but_not_recorded(&queries) {
        println!("note: {name} is shown or alerted on, but no program records it yet");
    }
    Ok(found)
}

fn dashboards(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = root.join(DASHBOARDS);
    let entries = fs::read_dir(&folder).map_err(Error::file(folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths)
}

fn read(root: &Path, path: &str) -> Result<String, Error> {
    let path = root.join(path);
    fs::read_to_string(&path).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::workspace_root;

    #[test]
    fn this_workspace_names_only_existing_series() {
        assert_eq!(violations(&workspace_root()).unwrap(), Vec::<String>::new());
    }
}
