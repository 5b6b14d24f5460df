//! `cargo xtask lint`: the checks that a reviewer should not have to make.

mod arrows;
mod circles;
mod deny;
mod docs;
mod errors;
mod files;
mod metrics;
mod packages;
mod settings;
mod sizes;
mod source;
mod toolchain;
mod unused;
mod words;
mod workspace;

use std::path::{Path, PathBuf};

use self::workspace::Workspace;
use crate::{
    Error,
    cargo::{cargo, status_of, workspace_root},
    test::EMBEDDING,
};

/// One check of `cargo xtask lint`.
struct Check {
    /// Its name in `cargo xtask lint NAME`.
    name: &'static str,
    about: &'static str,
    run: Run,
}

enum Run {
    /// Returns a message for each problem.
    Own(fn(&Repository) -> Result<Vec<String>, Error>),
    /// Runs a program that prints its own report. Returns whether it passed.
    Program(fn(&Repository) -> Result<bool, Error>),
}

/// The input of the checks.
struct Repository {
    root: PathBuf,
    workspace: Workspace,
}

/// All checks, the fast ones first.
const CHECKS: &[Check] = &[
    own("arrows", "dependencies between crates", |of| Ok(arrows::violations(&of.workspace))),
    own("circles", "circles between the modules of a crate", |of| {
        circles::violations(&of.root, &of.workspace)
    }),
    own("errors", "errors that print their source", |of| errors::violations(&of.root)),
    own("sizes", "lengths of source files", |of| sizes::violations(&of.root)),
    own("docs", "names, paths, links and figures in the docs", |of| docs::violations(&of.root)),
    own("words", "words that docs/STYLE.md replaces", |of| words::violations(&of.root)),
    own("unused", "unused dependencies", |of| unused::violations(&of.workspace)),
    own("metrics", "metrics in dashboards, alerts and docs", |of| metrics::violations(&of.root)),
    own("settings", "settings in deploy and docs", |of| settings::violations(&of.root)),
    own("packages", "manifests of published crates", |of| Ok(packages::violations(&of.workspace))),
    own("rust", "the minimum Rust version", |of| toolchain::violations(&of.root, &of.workspace)),
    program("promtool", "alerts and their tests", |of| metrics::promtool_is_clean(&of.root)),
    program("package", "cargo package", |of| packages::cargo_can_package(&of.root, &of.workspace)),
    program("deny", "cargo deny", |of| deny::passes(&of.root)),
    program("fmt", "cargo fmt", |of| each_workspace(of, &["fmt", "--all", "--check"])),
    program("clippy", "cargo clippy", |of| {
        each_workspace(of, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    program("doc", "cargo doc", |of| each_workspace(of, &["doc", "--workspace", "--no-deps"])),
    program("msrv", "cargo check with the minimum Rust version", |of| {
        toolchain::minimum_compiles(&of.root, &of.workspace)
    }),
];

const fn own(
    name: &'static str,
    about: &'static str,
    run: fn(&Repository) -> Result<Vec<String>, Error>,
) -> Check {
    Check { name, about, run: Run::Own(run) }
}

const fn program(
    name: &'static str,
    about: &'static str,
    run: fn(&Repository) -> Result<bool, Error>,
) -> Check {
    Check { name, about, run: Run::Program(run) }
}

/// Runs the checks with these names, or all if there are none. Continues after a failure. Returns whether all passed.
///
/// # Errors
/// Fails if a name is unknown or a check cannot run.
pub fn lint(names: &[String]) -> Result<bool, Error> {
    if let Some(unknown) = names.iter().find(|name| CHECKS.iter().all(|check| check.name != **name)) {
        let known: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        return Err(Error::Usage(format!(
            "there is no check `{unknown}`; the checks are {}",
            known.join(", ")
        )));
    }
    let root = workspace_root();
    let repository = Repository { workspace: Workspace::of(&root)?, root };
    let mut failed = Vec::new();
    for check in CHECKS.iter().filter(|check| names.is_empty() || names.iter().any(|name| name == check.name))
    {
        println!("lint: {}: {}", check.name, check.about);
        let passed = match check.run {
            Run::Own(run) => report(&run(&repository)?),
            Run::Program(run) => run(&repository)?,
        };
        if !passed {
            failed.push(check.name);
        }
    }
    if failed.is_empty() {
        println!("lint: all checks passed");
    } else {
        println!("lint: failed, see above: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn report(violations: &[String]) -> bool {
    for violation in violations {
        eprintln!("error: {violation}");
    }
    violations.is_empty()
}

/// Runs cargo in this workspace and in the one of `tests/embedding`.
fn each_workspace(repository: &Repository, arguments: &[&str]) -> Result<bool, Error> {
    let mut passed = cargo_passes(&repository.root, arguments)?;
    let embedding = repository.root.join(EMBEDDING);
    if embedding.join("Cargo.toml").is_file() {
        passed &= cargo_passes(&embedding, arguments)?;
    }
    Ok(passed)
}

fn cargo_passes(folder: &Path, arguments: &[&str]) -> Result<bool, Error> {
    let mut command = cargo(folder);
    Ok(status_of(command.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_check_is_refused() {
        let error = lint(&["clipy".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no check `clipy`; the checks are arrows, "), "{error}");
    }
}
