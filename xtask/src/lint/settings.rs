//! Compares the settings named in `deploy/` and `docs/` with those that the programs have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{files, source};
use crate::Error;

const PAGE: &str = "docs/settings.md";
const PREFIX: &str = "POSTRIDER_";

/// Variables that no program reads: the version of the image, and the database of the tests.
const OTHERS: [&str; 3] = ["POSTRIDER_VERSION", "POSTRIDER_TEST_DATABASE_URL", "POSTRIDER_TEST_PROGRAM"];

/// Returns the settings that the page omits or gives a wrong default, and names in `deploy/` and `docs/` that no
/// setting has.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let mut settings = BTreeMap::new();
    for folder in source::folders(&root.join("crates"))? {
        source::each(&folder, &mut |_, source| settings.extend(of_source(source)))?;
    }
    let page = fs::read_to_string(root.join(PAGE)).map_err(Error::file(root.join(PAGE)))?;
    let mut found = of_page(&settings, &page);
    files::each_text(root, &mut |path, text| {
        if !["deploy/", "docs/"].iter().any(|folder| path.starts_with(folder)) {
            return;
        }
        for name in names(text) {
            if !settings.contains_key(name) && !OTHERS.contains(&name) {
                found.push(format!("{path}: there is no setting {name}"));
            }
        }
    })?;
    Ok(found)
}

/// Returns the settings of a source with their defaults: `env = "…"` and `default_value = "…"` of one attribute, or a
/// constant `…_VARIABLE: &str = "POSTRIDER_…"`.
fn of_source(source: &str) -> Vec<(String, Option<String>)> {
    let attributes = source.split("#[arg(").skip(1).filter_map(|rest| rest.split_once(")]\n"));
    let in_attributes = attributes.filter_map(|(attribute, _)| {
        Some((
            quoted(attribute, "env = \"")?.to_owned(),
            quoted(attribute, "default_value = \"").map(str::to_owned),
        ))
    });
    let constants = source.lines().filter_map(|line| {
        let name = quoted(line, "_VARIABLE: &str = \"")?;
        Some((name.to_owned(), None))
    });
    constants.chain(in_attributes).filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once('"').map(|(value, _)| value)
}

/// Compares the settings with the page's rows, ``| `POSTRIDER_X` | `default` | … |``.
fn of_page(settings: &BTreeMap<String, Option<String>>, page: &str) -> Vec<String> {
    let rows: BTreeMap<&str, &str> = page.lines().filter_map(row).collect();
    let mut found = Vec::new();
    for (name, default) in settings {
        match (rows.get(name.as_str()), default) {
            (None, _) => found.push(format!("{PAGE} has no row for {name}")),
            (Some(cell), Some(default)) if !cell.contains(&format!("`{default}`")) => {
                found.push(format!("{PAGE}: the default of {name} is `{default}`"));
            }
            (Some(cell), None) if cell.contains('`') => {
                found.push(format!("{PAGE}: {name} has no default"));
            }
            _ => {}
        }
    }
    found
}

fn row(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| `")?.split('|');
    let name = cells.next()?.trim().strip_suffix('`')?;
    Some((name, cells.next()?))
}

/// Returns the words of a text that look like settings.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part =
        |character: char| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_';
    text.split(|character| !is_part(character))
        .filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::workspace_root;

    const SOURCE: &str = r#"
const CONFIG_VARIABLE: &str = "POSTRIDER_CONFIG";
struct Args {
    #[arg(long, env = "POSTRIDER_URL", value_name = "URL")]
    url: Option<String>,
    #[arg(
        long, env = "POSTRIDER_LIMIT", default_value = "1MiB",
        value_parser = clap::value_parser!(u32).range(1..=30)
    )]
    limit: u32,
    #[arg(long, env = "OTHER", default_value = "x")]
    other: u32,
}
"#;

    fn page(text: &str) -> Vec<String> {
        of_page(&of_source(SOURCE).into_iter().collect(), text)
    }

    #[test]
    fn settings_are_read_with_their_defaults() {
        let text = |text: &str| text.to_owned();
        let expected = [
            (text("POSTRIDER_CONFIG"), None),
            (text("POSTRIDER_URL"), None),
            (text("POSTRIDER_LIMIT"), Some(text("1MiB"))),
        ];
        assert_eq!(of_source(SOURCE), expected);
    }

    #[test]
    fn the_page_has_every_setting_and_its_default() {
        let rows = "| `POSTRIDER_CONFIG` | | a file |\n| `POSTRIDER_URL` | none | where |\n";
        assert!(page(&format!("{rows}| `POSTRIDER_LIMIT` | `1MiB` | how much |")).is_empty());
        assert_eq!(page(rows), ["docs/settings.md has no row for POSTRIDER_LIMIT"]);
        let other = page(&format!("{rows}| `POSTRIDER_LIMIT` | `2MiB` | not `1MiB` |"));
        assert_eq!(other, ["docs/settings.md: the default of POSTRIDER_LIMIT is `1MiB`"]);
        let invented = rows.replace("none", "`x`");
        assert!(page(&invented).contains(&"docs/settings.md: POSTRIDER_URL has no default".to_owned()));
    }

    #[test]
    fn names_are_whole_words() {
        let text = "${POSTRIDER_ALLOW_NETS:-} POSTRIDER_A,MY_POSTRIDER_B POSTRIDER_ POSTRIDER_…";
        assert_eq!(names(text).into_iter().collect::<Vec<_>>(), ["POSTRIDER_A", "POSTRIDER_ALLOW_NETS"]);
    }

    #[test]
    fn this_workspace_names_its_settings() {
        assert_eq!(violations(&workspace_root()).unwrap(), Vec::<String>::new());
    }
}
