//! Checks that the docs name only tests, paths, types, methods, figures and documents that exist.

mod figures;
mod guarantees;
mod index;
mod names;
mod page;
mod paths;

use std::{collections::BTreeMap, path::Path};

use self::{index::Index, page::Page};
use super::files;
use crate::Error;

const README: &str = "README.md";
const BENCHMARKS: &str = "docs/benchmarks.md";

/// Pages that may name items that no longer exist: the style guide shows replaced names, and the changelog is history.
const OF_OTHER_NAMES: [&str; 2] = ["docs/STYLE.md", "CHANGELOG.md"];

/// Returns a message for each name, path, link and figure that does not exist.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let index = Index::of(root)?;
    let mut pages = BTreeMap::new();
    let mut benchmarks = String::new();
    let mut found = Vec::new();
    files::each_text(root, &mut |path, text| {
        if files::is_markdown(path) {
            pages.insert(path.to_owned(), Page::of(text));
        } else {
            found.extend(cited(path, text, &index));
        }
        if path == BENCHMARKS {
            text.clone_into(&mut benchmarks);
        }
    })?;
    for (path, page) in &pages {
        if OF_OTHER_NAMES.contains(&path.as_str()) {
            found.extend(paths::broken_links(path, &pages, &index));
        } else {
            found.extend(names::violations(path, page, &index));
            found.extend(paths::violations(path, &pages, &index));
        }
    }
    if let Some(page) = pages.get(README) {
        found.extend(guarantees::violations(README, page, &index));
        found.extend(figures::violations(README, page, &benchmarks));
    }
    Ok(found)
}

/// Returns the documents that a source or configuration file cites although they are not in the repository.
fn cited(path: &str, text: &str, index: &Index) -> Vec<String> {
    // The tests of this check cite documents that do not exist.
    if path.starts_with("xtask/src/lint/") {
        return Vec::new();
    }
    let is_part = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '/' | ':')
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.split(|character| !is_part(character)).map(|word| word.trim_end_matches(['.', ':']));
        for document in words.filter(|word| files::is_markdown(word) && !word.contains("://")) {
            let name = document.trim_start_matches("./").trim_start_matches("../").trim_start_matches('/');
            let is_name = !name.starts_with('.') && paths::ending_in(name, index).is_empty();
            if is_name {
                found.push(format!("{path}:{}: {document} is not in the repository", number + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_not_here_is_found() {
        let index = Index::of_files(&[("docs/adr/0001.md", ""), ("README.md", "")]);
        let text =
            "// README.md, docs/adr/0001.md.\n// See ../shared/design.md.\n// https://x.y/z.md and *.md\n";
        assert_eq!(cited("a.rs", text, &index), ["a.rs:2: ../shared/design.md is not in the repository"]);
    }
}
