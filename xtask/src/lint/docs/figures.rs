//! Checks that `docs/benchmarks.md` has the README's figures.

use std::collections::BTreeSet;

use super::page::Page;

const SOURCE: &str = "docs/benchmarks.md";
const HEADING: &str = "\n## Performance\n";

/// Returns the figures of the README's section that the current results of the benchmarks lack. Whole numbers below
/// 100 ("two of 16") are no figures.
pub(super) fn violations(path: &str, page: &Page, benchmarks: &str) -> Vec<String> {
    let Some(start) = page.prose.find(HEADING).map(|start| start + HEADING.len()) else {
        return vec![format!("{path} has no section `{}`", HEADING.trim())];
    };
    let end = page.prose[start..].find("\n## ").map_or(page.prose.len(), |length| start + length);
    let known: BTreeSet<String> = current(benchmarks).flat_map(figures).collect();
    let first_line = page.prose[..start].matches('\n').count() + 1;
    let mut found = Vec::new();
    for (offset, line) in page.prose[start..end].lines().enumerate() {
        for figure in figures(line).into_iter().filter(|figure| !known.contains(figure)) {
            found.push(format!(
                "{path}:{}: {figure} is not in the current results of {SOURCE}",
                first_line + offset
            ));
        }
    }
    found
}

/// Returns the lines of the page without its tables of earlier results, which have no column `result`.
fn current(benchmarks: &str) -> impl Iterator<Item = &str> {
    let mut is_current = true;
    let mut in_table = false;
    benchmarks.lines().filter(move |line| {
        let is_row = line.starts_with('|');
        if is_row && !in_table {
            is_current = line.split('|').any(|cell| cell.trim() == "result");
        }
        in_table = is_row;
        !is_row || is_current
    })
}

/// Returns the numbers with a fraction or at least three digits, without thousands separators.
fn figures(line: &str) -> Vec<String> {
    let is_part = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | ',' | '_' | '-' | '/')
    };
    let words =
        line.split(|character| !is_part(character)).map(|word| word.trim_end_matches(['.', ',', '-']));
    let numbers =
        words.filter(|word| word.chars().all(|part| part.is_ascii_digit() || matches!(part, '.' | ',')));
    let figures = numbers.map(|number| number.replace(',', ""));
    figures.filter(|number| number.contains('.') || number.len() > 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCHMARKS: &str = "# Benchmarks\nThe median is 5,500 of six runs, at commit `3523b8b`.\n\n\
        | bench | what | result | goal |\n|---|---|---:|---|\n| latency | p50 | 2.62 ms | |\n\n\
        | bench | what | 2026-11-24 | 2026-11-26 |\n|---|---|---:|---:|\n| fanout | deliveries | 3108 | 7905 |\n";

    fn found(text: &str) -> Vec<String> {
        violations(
            "README.md",
            &Page::of(&format!("# X\n\n## Performance\n{text}\n\n## Limits\n4,321\n")),
            BENCHMARKS,
        )
    }

    #[test]
    fn figures_of_the_benchmarks_pass() {
        assert_eq!(
            found("| events | 5,500 per second, of 6 runs |\n| p50 | 2.62 ms, `webhook-1.5` |"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn other_figures_and_those_of_earlier_results_are_found() {
        assert_eq!(
            found("x\n3,100 a second"),
            ["README.md:5: 3100 is not in the current results of docs/benchmarks.md"]
        );
        assert_eq!(
            found("3,108 a second"),
            ["README.md:4: 3108 is not in the current results of docs/benchmarks.md"]
        );
        assert_eq!(
            found("p99 2.63 ms."),
            ["README.md:4: 2.63 is not in the current results of docs/benchmarks.md"]
        );
    }

    #[test]
    fn a_readme_without_the_section_is_found() {
        let found = violations("README.md", &Page::of("# X\n"), BENCHMARKS);
        assert_eq!(found, ["README.md has no section `## Performance`"]);
    }
}
