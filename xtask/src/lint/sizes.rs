//! Checks the lengths of source files.

use std::path::Path;

use super::files;
use crate::Error;

/// The most lines of a source file. CONTRIBUTING.md recommends about 400.
const MOST_LINES: usize = 450;

/// Returns Rust and SQL files outside the packages' `tests` folders that are too long.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    files::each_text(root, &mut |path, text| {
        // `tests/kit` is a package like any other; only its own `tests` folder is exempt.
        let in_tests =
            path.match_indices("/tests/").any(|(end, _)| root.join(&path[..end]).join("Cargo.toml").exists());
        if !in_tests {
            found.extend(of_file(path, text));
        }
    })?;
    Ok(found)
}

fn of_file(path: &str, text: &str) -> Option<String> {
    let is_source = [".rs", ".sql"].iter().any(|extension| path.ends_with(extension));
    let lines = text.lines().count();
    (is_source && lines > MOST_LINES)
        .then(|| format!("{path} has {lines} lines: split it, {MOST_LINES} are the most for a source file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_of_more_than_450_lines_is_found() {
        let lines = |count: usize| "a\n".repeat(count);
        for path in ["crates/a/src/b.rs", "crates/a/src/b.sql"] {
            assert_eq!(of_file(path, &lines(450)), None);
            let expected = format!("{path} has 451 lines: split it, 450 are the most for a source file");
            assert_eq!(of_file(path, &lines(451)), Some(expected));
        }
        assert_eq!(of_file("docs/a.md", &lines(451)), None);
    }
}
