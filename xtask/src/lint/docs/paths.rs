//! Checks that links and paths lead to a file or folder of this repository.

use std::collections::BTreeMap;

use super::{index::Index, page::Page};

/// The endings of files that a page may name without their folder.
const SOURCES: &[&str] = &[".rs", ".md", ".sql", ".toml", ".yml", ".yaml", ".json"];

/// Files that users and programs create, and the repository lacks.
const MADE: &[&str] = &["postrider.toml", "deploy/.env", "target/"];

/// Returns the links, and the paths in code spans and blocks, that lead nowhere.
pub(super) fn violations(path: &str, pages: &BTreeMap<String, Page>, index: &Index) -> Vec<String> {
    let Some(page) = pages.get(path) else { return Vec::new() };
    let spans = page.spans.iter().map(|span| (span.line, span.text.as_str()));
    let in_blocks = page.blocks.iter().flat_map(|block| {
        let lines = block.text.lines().enumerate();
        lines.flat_map(move |(offset, line)| {
            line.split_whitespace().map(move |word| (block.line + offset, word))
        })
    });
    let of_blocks = in_blocks.filter(|(_, word)| index.paths.contains(&root_folder(word)));
    let paths = spans.chain(of_blocks).filter(|(_, text)| is_path(text, index) && !exists(path, text, index));
    let paths = paths.map(|(line, text)| format!("{path}:{line}: `{text}` does not exist"));
    broken_links(path, pages, index).into_iter().chain(paths).collect()
}

pub(super) fn broken_links(path: &str, pages: &BTreeMap<String, Page>, index: &Index) -> Vec<String> {
    let links = pages.get(path).into_iter().flat_map(|page| &page.links);
    let broken = links.filter_map(|link| {
        let problem = broken_link(path, &link.target, pages, index)?;
        Some(format!("{path}:{}: {problem}", link.line))
    });
    broken.collect()
}

fn broken_link(path: &str, target: &str, pages: &BTreeMap<String, Page>, index: &Index) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { path.to_owned() } else { beside(path, file) };
    if !is_there(&file, index) {
        return Some(format!("the link to {target} leads nowhere"));
    }
    let has_anchor = pages.get(&file).is_none_or(|page| page.anchors.contains(fragment));
    (!fragment.is_empty() && !has_anchor)
        .then(|| format!("the link to {target} leads to no heading of {file}"))
}

/// Converts a path that is relative to a page into one from the root.
fn beside(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns whether a text looks like a path of this repository.
fn is_path(text: &str, index: &Index) -> bool {
    let has_odd = text.contains(|odd: char| odd.is_whitespace() || "*<>{}…$:=@,()".contains(odd));
    let is_elsewhere =
        text.starts_with(['/', '~', '-', '.']) && !text.starts_with(".ci/") && !text.starts_with(".cargo/");
    if has_odd || is_elsewhere || MADE.iter().any(|made| text.starts_with(made)) {
        return false;
    }
    let is_source = SOURCES.iter().any(|ending| text.ends_with(ending) && text.len() > ending.len());
    let first = root_folder(text);
    let is_folder = text.contains('/')
        && (index.paths.contains(&first) || index.paths.contains(&format!("crates/{first}")));
    is_source || is_folder
}

fn root_folder(text: &str) -> String {
    format!("{}/", text.split('/').next().unwrap_or_default())
}

/// Returns whether a path exists from the root, from the page, or as the end of a longer path (`events/request.rs`).
fn exists(page: &str, text: &str, index: &Index) -> bool {
    let text = text.trim_end_matches('/');
    is_there(text, index) || is_there(&beside(page, text), index) || !ending_in(text, index).is_empty()
}

fn is_there(path: &str, index: &Index) -> bool {
    index.paths.contains(path) || index.paths.contains(&format!("{path}/"))
}

/// Returns every file and every folder (with its `/`) whose path ends in this one.
pub(super) fn ending_in<'a>(text: &str, index: &'a Index) -> Vec<&'a str> {
    let ending = format!("/{text}");
    let matches = |path: &&String| {
        let path = path.trim_end_matches('/');
        path == text || path.ends_with(&ending)
    };
    index.paths.iter().filter(matches).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let index = Index::of_files(&[
            ("README.md", ""),
            ("docs/a.md", ""),
            ("docs/b.md", ""),
            ("crates/store/src/store/record.rs", ""),
            ("crates/store/tests/it/main.rs", ""),
            ("deploy/compose.yml", ""),
        ]);
        let pages = [("docs/a.md", text), ("docs/b.md", "# A heading"), ("README.md", "")];
        let pages = pages.into_iter().map(|(path, text)| (path.to_owned(), Page::of(text))).collect();
        violations("docs/a.md", &pages, &index)
    }

    #[test]
    fn existing_links_and_paths_pass() {
        let text = "# Here\n[b](b.md) [c](b.md#a-heading) [d](#here) [e](../README.md) [f](https://x.y/z.md) [g](../deploy)\n\
                    `crates/store/src` `store/tests/it` `record.rs` `store/record.rs` `b.md` `deploy/` `application/json` \
                    `/v1/events` `*.rs` `.rs`\n```\ncrates/store/src/store/record.rs other/x.rs\n```\n";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn broken_links_and_paths_are_found() {
        for (text, expected) in [
            ("[b](c.md)", "the link to c.md leads nowhere"),
            ("[b](b.md#heading)", "the link to b.md#heading leads to no heading of docs/b.md"),
            ("[b](#heading)", "the link to #heading leads to no heading of docs/a.md"),
            ("[d]: ../design.md", "the link to ../design.md leads nowhere"),
            ("`crates/store/src/gone.rs`", "`crates/store/src/gone.rs` does not exist"),
            ("`store/tests/blackbox`", "`store/tests/blackbox` does not exist"),
            ("`gone.rs`", "`gone.rs` does not exist"),
            ("`design.md`", "`design.md` does not exist"),
        ] {
            assert_eq!(found(text), [format!("docs/a.md:1: {expected}")]);
        }
        assert_eq!(found("```\ncrates/gone.rs\n```"), ["docs/a.md:2: `crates/gone.rs` does not exist"]);
    }
}
