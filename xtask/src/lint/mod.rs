//! `cargo xtask lint`: what a reviewer should not have to look for.

mod arrows;
mod metrics;
mod settings;
mod source;
mod unused;
mod workspace;

use std::path::Path;

use self::workspace::Workspace;
use crate::{
    Error,
    cargo::{cargo, status_of, workspace_root},
    test::EMBEDDING,
};

/// Runs every check, the quick ones first, and goes on after one that fails. Whether all are clean.
///
/// # Errors
/// When a check cannot be run at all.
pub fn lint() -> Result<bool, Error> {
    let root = workspace_root();
    let mut clean = check_workspace(&root)?;
    let embedding = root.join(EMBEDDING);
    if embedding.join("Cargo.toml").is_file() {
        clean &= cargo_is_clean(&embedding)?;
    }
    println!("lint: {}", if clean { "all clean" } else { "not clean, see above" });
    Ok(clean)
}

fn check_workspace(root: &Path) -> Result<bool, Error> {
    let workspace = Workspace::of(root)?;
    let arrows = report("crate arrows", &arrows::violations(&workspace));
    let unused = report("unused dependencies", &unused::violations(&workspace)?);
    let metrics = report("dashboards, alerts and their metrics", &metrics::violations(root)?);
    let settings = report("settings in deploy and docs", &settings::violations(root)?);
    let promtool = metrics::promtool_is_clean(root)?;
    Ok(cargo_is_clean(root)? & arrows & unused & metrics & settings & promtool)
}

/// Format, clippy and docs of one workspace.
fn cargo_is_clean(root: &Path) -> Result<bool, Error> {
    let mut clean = true;
    for arguments in [
        &["fmt", "--all", "--check"][..],
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &["doc", "--workspace", "--no-deps"],
    ] {
        println!("lint: cargo {}", arguments.join(" "));
        clean &= status_of(cargo(root).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))?.success();
    }
    Ok(clean)
}

fn report(check: &str, violations: &[String]) -> bool {
    println!("lint: {check}");
    for violation in violations {
        eprintln!("error: {violation}");
    }
    violations.is_empty()
}
