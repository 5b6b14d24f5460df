//! `docs/settings.md` against the bounds.

use std::fs;
use std::path::Path;

use crate::probe;

/// Compares the bounds in `--help` with the row of the setting. `cargo xtask lint` compares names and defaults.
#[test]
fn the_settings_page_has_the_bounds_that_help_shows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    // The published package has no documentation folder.
    let Ok(page) = fs::read_to_string(page) else { return };
    let help = probe::all(&[], &["--help"]);
    let mut compared = 0;
    let mut bounds = None;
    for line in help.lines() {
        if let Some((_, shown)) = line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")) {
            bounds =
                shown.split(';').next().filter(|shown| shown.contains(" to ") || shown.contains("at most "));
        }
        let variable = line.trim().strip_prefix("[env: ").and_then(|rest| rest.split(['=', ']']).next());
        if let (Some(variable), Some(bounds)) = (variable, bounds.take_if(|_| variable.is_some())) {
            let row = page.lines().find(|row| row.starts_with(&format!("| `{variable}` |")));
            let row = row.unwrap_or_else(|| panic!("no row for {variable}")).replace('`', "").to_lowercase();
            assert!(row.contains(&bounds.to_lowercase()), "{variable}: {bounds} is not in {row}");
            compared += 1;
        }
    }
    assert!(compared >= 13, "only {compared} settings have bounds");
}
