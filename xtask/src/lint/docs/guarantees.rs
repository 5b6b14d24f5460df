//! Checks the tests of the README's guarantees, which it names as `` `folder`: `a_test`, `file.rs` ``.

use super::{
    super::files,
    index::Index,
    page::{Page, Span, line_of},
    paths::ending_in,
};

const HEADING: &str = "\n## Guarantees\n";

/// Returns tests that are not in the folder that the README names, and guarantees without a test.
pub(super) fn violations(path: &str, page: &Page, index: &Index) -> Vec<String> {
    let Some(start) = page.prose.find(HEADING).map(|start| start + HEADING.len()) else {
        return vec![format!("{path} has no section `{}`", HEADING.trim())];
    };
    let end = page.prose[start..].find("\n## ").map_or(page.prose.len(), |length| start + length);
    let mut found = Vec::new();
    let mut guarantees = 0;
    let mut at = start;
    for paragraph in page.prose[start..end].split("\n\n") {
        let range = at..at + paragraph.len();
        at = range.end + 2;
        let spans: Vec<&Span> = page.spans.iter().filter(|span| range.contains(&span.start)).collect();
        let tests = check(path, page, &spans, index, &mut found);
        // `**1. Its name.** …`
        let title = paragraph.trim_start().strip_prefix("**");
        if title.is_some_and(|title| title.starts_with(|first: char| first.is_ascii_digit())) {
            guarantees += 1;
            if tests == 0 {
                let blank = paragraph.len() - paragraph.trim_start().len();
                let line = line_of(&page.prose, range.start + blank);
                found.push(format!(
                    "{path}:{line}: a guarantee without a test: name one, as `folder`: `its_name`"
                ));
            }
        }
    }
    if guarantees == 0 {
        found.push(format!("{path}: the guarantees are not numbered as `**1. Name.**`"));
    }
    found
}

/// Checks the tests of one paragraph. Returns their number.
fn check(path: &str, page: &Page, spans: &[&Span], index: &Index, found: &mut Vec<String>) -> usize {
    let mut places: Vec<&str> = Vec::new();
    let mut tests = 0;
    let mut spans = spans.iter().peekable();
    while let Some(span) = spans.next() {
        if let Some(mut more) = followed_by_colon(page, span, &mut spans) {
            more.insert(0, span);
            places.clear();
            for place in more {
                match ending_in(place.text.trim_end_matches('/'), index).first() {
                    Some(place) => places.push(place),
                    None => found.push(format!("{path}:{}: `{}` does not exist", place.line, place.text)),
                }
            }
            continue;
        }
        let is_file = files::is_rust(&span.text);
        if !is_file && !span.text.contains('_') {
            continue;
        }
        for place in &places {
            tests += 1;
            let exists = if is_file {
                ending_in(&span.text, index).iter().any(|file| file.starts_with(place))
            } else {
                index.has_function_in(place, &span.text)
                    // `target.rs` and its folder `target/` are one place.
                    || index.has_function_in(&format!("{}/", place.trim_end_matches(".rs")), &span.text)
                    || index.has_function_in(&format!("{}.rs", place.trim_end_matches('/')), &span.text)
            };
            if !exists {
                found.push(format!("{path}:{}: {place} has no test `{}`", span.line, span.text));
            }
        }
    }
    tests
}

/// If the list of spans that starts with `first` ends in a colon, takes the others from `rest` and returns them.
fn followed_by_colon<'a>(
    page: &Page,
    first: &Span,
    rest: &mut std::iter::Peekable<std::slice::Iter<'a, &'a Span>>,
) -> Option<Vec<&'a Span>> {
    let mut ahead = rest.clone();
    let mut list = Vec::new();
    let mut end = first.end;
    loop {
        let after = page.prose[end..].trim_start();
        if after.starts_with(':') {
            for _ in &list {
                rest.next();
            }
            return Some(list);
        }
        let next = ahead.next()?;
        if !matches!(page.prose[end..next.start].trim(), "," | "and" | ", and") {
            return None;
        }
        end = next.end;
        list.push(*next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(guarantees: &str) -> Vec<String> {
        let index = Index::of_files(&[
            ("crates/store/tests/it/main.rs", "#[test] fn it_holds() {} on_both!(twice, also_here);"),
            ("crates/store/tests/it/breaker.rs", ""),
            ("crates/core/src/target/tests.rs", "#[test] fn ranges_end() {}"),
            ("crates/core/src/target.rs", "#[test] fn names_end() {}"),
            ("tests/blackbox/tests/it/main.rs", "#[test] fn it_holds() {} #[test] fn elsewhere_only() {}"),
        ]);
        violations(
            "README.md",
            &Page::of(&format!("# X\n\n## Guarantees\n\n{guarantees}\n\n## Limits\n")),
            &index,
        )
    }

    #[test]
    fn tests_in_the_named_folder_pass() {
        let text = "**1. A.** Of `max_attempts`. `store/tests/it`: `it_holds`, `also_here`, `breaker.rs`. `core/src/target`:\n\
                    `ranges_end`, `names_end`.\n\n**2. B.** `store/tests/it`, `tests/blackbox`: `it_holds`, which `data` does.";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_is_not_in_the_named_folder_is_found() {
        for (text, expected) in [
            ("`store/tests/it`: `it_held`", "crates/store/tests/it/ has no test `it_held`"),
            ("`store/tests/it`: `elsewhere_only`", "crates/store/tests/it/ has no test `elsewhere_only`"),
            ("`store/tests/it`: `it_holds`, `gone.rs`", "crates/store/tests/it/ has no test `gone.rs`"),
            (
                "`store/tests/it`, `tests/blackbox`: `elsewhere_only`",
                "crates/store/tests/it/ has no test `elsewhere_only`",
            ),
        ] {
            assert_eq!(found(&format!("**1. A.** {text}.")), [format!("README.md:5: {expected}")]);
        }
    }

    #[test]
    fn an_unknown_folder_is_found() {
        let wrong = found("**1. A.** `store/tests/gone`: `it_holds`.");
        assert_eq!(wrong[0], "README.md:5: `store/tests/gone` does not exist");
    }

    #[test]
    fn a_guarantee_without_a_test_is_found() {
        let expected = "README.md:5: a guarantee without a test: name one, as `folder`: `its_name`";
        assert_eq!(found("**1. A.** Trust us, `data` is safe."), [expected]);
        assert!(violations("README.md", &Page::of("# X\n"), &Index::default())[0].contains("has no section"));
    }
}
