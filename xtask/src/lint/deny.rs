//! Runs `cargo deny`, which checks the dependencies' licences, duplicates, sources and security advisories.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    Error,
    cargo::{cargo, status_of},
};

const RULES: &str = "deny.toml";

/// Runs cargo-deny by the rules of `deny.toml`, if it is installed. Returns whether it passed.
pub(super) fn passes(root: &Path) -> Result<bool, Error> {
    if !is_installed(root)? {
        println!("lint: deny: skipped: cargo-deny is not installed (`cargo install cargo-deny --locked`)");
        return Ok(true);
    }
    let rules = status_of(deny(root, &root.join(RULES)).args(["licenses", "bans", "sources"]))?.success();
    Ok(advisories_pass(root)? & rules)
}

/// Checks the advisories, unless their database on GitHub cannot be fetched.
fn advisories_pass(root: &Path) -> Result<bool, Error> {
    let output =
        deny(root, &root.join(RULES)).arg("advisories").output().map_err(Error::spawn("cargo deny"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && report.contains("failed to fetch advisory database") {
        println!(
            "lint: deny: advisories skipped: their database (github.com/RustSec/advisory-db) cannot be fetched"
        );
        return Ok(true);
    }
    eprint!("{report}");
    Ok(output.status.success())
}

fn is_installed(root: &Path) -> Result<bool, Error> {
    let mut command = cargo(root);
    command.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(status_of(&mut command)?.success())
}

fn deny(root: &Path, rules: &Path) -> Command {
    let mut command = cargo(root);
    command
        .args(["deny", "--log-level=error", "--config"])
        .arg(rules)
        .args(["check", "--hide-inclusion-graph"]);
    command
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cargo::workspace_root;

    /// Passes if cargo-deny is not installed.
    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        let root = workspace_root();
        if !is_installed(&root).unwrap() {
            return;
        }
        let rules = fs::read_to_string(root.join(RULES)).unwrap();
        let stricter = std::env::temp_dir().join(format!("postrider-deny-{}.toml", std::process::id()));
        for (rules, expected) in [(rules.clone(), true), (rules.replace("\"ISC\",", ""), false)] {
            fs::write(&stricter, rules).unwrap();
            let mut command = deny(&root, &stricter);
            command.arg("licenses").stderr(Stdio::null());
            assert_eq!(status_of(&mut command).unwrap().success(), expected);
        }
        fs::remove_file(&stricter).unwrap();
    }
}
