//! Checks the minimum Rust version: the docs, the image and the dependencies agree with `rust-version`, and the code
//! compiles with it.
//!
//! Clippy reads `rust-version` too and refuses items that the standard library of that version lacks
//! (`incompatible_msrv`).

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{files, workspace::Workspace};
use crate::{
    Error,
    cargo::{cargo, output_of, status_of, without_own_variables},
};

/// The pages that must state the version.
const PAGES: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// Builds the container image, with a Rust version of its own.
const IMAGE: &str = "deploy/Dockerfile";

/// Returns other versions in the docs, an older one in the image, and dependencies that need a newer one.
pub(super) fn violations(root: &Path, workspace: &Workspace) -> Result<Vec<String>, Error> {
    let Some(version) = stated(workspace) else {
        return Ok(vec!["Cargo.toml states no `rust-version`".to_owned()]);
    };
    let mut found = Vec::new();
    files::each_text(root, &mut |path, text| {
        if files::is_markdown(path) && path != "CHANGELOG.md" {
            found.extend(of_page(path, text, version));
        }
        if path == IMAGE {
            found.extend(of_image(text, version));
        }
    })?;
    let metadata = output_of(cargo(root).args(["metadata", "--format-version=1"]))?;
    found.extend(of_dependencies(&serde_json::from_str(&metadata)?, version));
    Ok(found)
}

fn stated(workspace: &Workspace) -> Option<&str> {
    let versions = workspace.packages.iter().map(|package| package.manifest.rust_version.as_str());
    versions.into_iter().find(|version| !version.is_empty())
}

fn of_page(path: &str, text: &str, version: &str) -> Vec<String> {
    let mentioned: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .flat_map(|(index, line)| line.split("Rust 1.").skip(1).map(move |rest| (index + 1, rest)))
        .map(|(line, rest)| {
            (line, &rest[..rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len())])
        })
        .collect();
    let mut found: Vec<String> = mentioned
        .iter()
        .filter(|(_, minor)| format!("1.{minor}") != version)
        .map(|(line, minor)| {
            format!("{path}:{line}: Rust 1.{minor} is not the `rust-version`, which is {version}")
        })
        .collect();
    if PAGES.contains(&path) && mentioned.is_empty() {
        found.push(format!("{path} does not say that Rust {version} is needed"));
    }
    found
}

fn of_image(text: &str, version: &str) -> Option<String> {
    let own = text.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION="))?;
    (numbers(own) < numbers(version))
        .then(|| format!("{IMAGE} builds with Rust {own}, and `rust-version` is {version}"))
}

fn of_dependencies(metadata: &Value, version: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let newer = packages.filter_map(|package| {
        let needs = package["rust_version"].as_str()?;
        (numbers(needs) > numbers(version)).then(|| {
            let name = package["name"].as_str().unwrap_or_default();
            format!("the dependency {name} needs Rust {needs}, and `rust-version` is {version}")
        })
    });
    newer.collect()
}

/// Returns the parts of a version as numbers: `1.94` equals `1.94.0`.
fn numbers(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = version.split('.').map_while(|number| number.parse().ok()).collect();
    numbers.resize(3, 0);
    numbers
}

/// Compiles the published packages with the minimum version, if rustup has it. Returns whether they compile.
pub(super) fn minimum_compiles(root: &Path, workspace: &Workspace) -> Result<bool, Error> {
    let version = stated(workspace).unwrap_or_default();
    if !is_installed(version) {
        println!(
            "lint: msrv: skipped: Rust {version} is not installed (`rustup toolchain install {version}`)"
        );
        return Ok(true);
    }
    let mut command = Command::new("rustup");
    without_own_variables(&mut command);
    command.current_dir(root).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command.args(["run", version, "cargo", "check", "--workspace", "--target-dir", "target/msrv"]);
    for package in workspace.packages.iter().filter(|package| !package.is_published) {
        command.arg("--exclude").arg(&package.name);
    }
    Ok(status_of(&mut command)?.success())
}

fn is_installed(version: &str) -> bool {
    let toolchains = output_of(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    has_toolchain(&toolchains, version)
}

fn has_toolchain(toolchains: &str, version: &str) -> bool {
    toolchains.lines().any(|toolchain| {
        let rest = toolchain.strip_prefix(version);
        rest.is_some_and(|rest| rest.starts_with('-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_in_the_docs_is_found() {
        let text = "Needs Rust 1.94 or newer.\nNot Rust 1.93, nor Rust 1.9.\n";
        let expected = [
            "README.md:2: Rust 1.93 is not the `rust-version`, which is 1.94",
            "README.md:2: Rust 1.9 is not the `rust-version`, which is 1.94",
        ];
        assert_eq!(of_page("README.md", text, "1.94"), expected);
    }

    #[test]
    fn a_page_that_does_not_state_the_version_is_found() {
        assert_eq!(
            of_page("README.md", "Rust.", "1.94"),
            ["README.md does not say that Rust 1.94 is needed"]
        );
        assert_eq!(of_page("docs/other.md", "Rust.", "1.94"), Vec::<String>::new());
    }

    #[test]
    fn an_image_with_an_older_version_is_found() {
        let expected = "deploy/Dockerfile builds with Rust 1.93, and `rust-version` is 1.94";
        assert_eq!(of_image("ARG RUST_VERSION=1.93\n", "1.94").as_deref(), Some(expected));
        assert_eq!(of_image("ARG RUST_VERSION=1.95\n", "1.94"), None);
    }

    #[test]
    fn a_dependency_that_needs_a_newer_version_is_found() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "rust_version": "1.94.0"}, {"name": "b", "rust_version": "1.100"},
            {"name": "c", "rust_version": null}, {"name": "d", "rust_version": "1.94.1"},
        ]});
        let expected = [
            "the dependency b needs Rust 1.100, and `rust-version` is 1.94",
            "the dependency d needs Rust 1.94.1, and `rust-version` is 1.94",
        ];
        assert_eq!(of_dependencies(&metadata, "1.94"), expected);
    }

    #[test]
    fn a_toolchain_is_found_by_its_whole_version() {
        let toolchains = "stable-x86_64-unknown-linux-gnu (active, default)\n1.94-x86_64-unknown-linux-gnu\n";
        assert!(has_toolchain(toolchains, "1.94"));
        assert!(!has_toolchain(toolchains, "1.9"));
        assert!(!has_toolchain(toolchains, "1.95"));
    }
}
