//! Checks that published packages have the fields that crates.io and docs.rs need, and that cargo can package them.

use std::path::Path;

use super::workspace::{Dependency, Kind, Package, Workspace};
use crate::{
    Error,
    cargo::{cargo, status_of},
};

/// The most keywords that crates.io accepts.
const MOST_KEYWORDS: usize = 5;

/// Returns a message for each field that the manifest of a published package lacks.
pub(super) fn violations(workspace: &Workspace) -> Vec<String> {
    workspace.packages.iter().filter(|package| package.is_published).flat_map(of_package).collect()
}

fn of_package(package: &Package) -> Vec<String> {
    let manifest = &package.manifest;
    let lacks = |field: &str| format!("{}: its Cargo.toml has no `{field}`", package.name);
    let texts = [
        ("description", &manifest.description),
        ("license", &manifest.license),
        ("repository", &manifest.repository),
        ("readme", &manifest.readme),
        ("rust-version", &manifest.rust_version),
    ];
    let mut found: Vec<String> =
        texts.iter().filter(|(_, text)| text.is_empty()).map(|(field, _)| lacks(field)).collect();
    if !manifest.readme.is_empty() && !package.folder.join(&manifest.readme).is_file() {
        found.push(format!("{}: its readme {} does not exist", package.name, manifest.readme));
    }
    if manifest.keywords == 0 || manifest.keywords > MOST_KEYWORDS {
        found.push(format!("{}: `keywords` needs one to {MOST_KEYWORDS} words", package.name));
    }
    if manifest.categories == 0 {
        found.push(lacks("categories"));
    }
    if !manifest.has_docs_rs {
        found.push(lacks("package.metadata.docs.rs"));
    }
    found.extend(package.dependencies.iter().filter(|dependency| lacks_version(dependency)).map(
        |dependency| {
            format!("{}: its dependency {} has a path and no version", package.name, dependency.package)
        },
    ));
    found
}

/// A dev-dependency needs no version: without one, cargo leaves it out of the package.
fn lacks_version(dependency: &Dependency) -> bool {
    dependency.is_path && dependency.requirement == "*" && dependency.kind != Kind::Dev
}

/// Packages all published crates together, because they depend on each other. Does not build them from the packages,
/// which takes minutes. Returns whether cargo succeeded.
pub(super) fn cargo_can_package(root: &Path, workspace: &Workspace) -> Result<bool, Error> {
    let mut command = cargo(root);
    // Offline it takes two seconds; everything that it needs is in the lock file.
    command.args(["package", "--workspace", "--no-verify", "--allow-dirty", "--offline", "--quiet"]);
    for package in workspace.packages.iter().filter(|package| !package.is_published) {
        command.arg("--exclude").arg(&package.name);
    }
    Ok(status_of(&mut command)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(package: &str) -> Workspace {
        Workspace::of_metadata(&format!("{{\"packages\": [{package}]}}")).unwrap()
    }

    #[test]
    fn every_missing_field_is_found() {
        let found = violations(&workspace(
            r#"{"name": "a", "manifest_path": "/nowhere/Cargo.toml", "readme": null, "dependencies": [
                {"name": "b", "path": "/nowhere/b", "req": "*", "kind": null},
                {"name": "c", "path": "/nowhere/c", "req": "^1", "kind": null},
                {"name": "d", "path": "/nowhere/d", "req": "*", "kind": "dev"}
            ]}"#,
        ));
        let expected = [
            "a: its Cargo.toml has no `description`",
            "a: its Cargo.toml has no `license`",
            "a: its Cargo.toml has no `repository`",
            "a: its Cargo.toml has no `readme`",
            "a: its Cargo.toml has no `rust-version`",
            "a: `keywords` needs one to 5 words",
            "a: its Cargo.toml has no `categories`",
            "a: its Cargo.toml has no `package.metadata.docs.rs`",
            "a: its dependency b has a path and no version",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_readme_that_does_not_exist_and_too_many_keywords_are_found() {
        let found = violations(&workspace(
            r#"{"name": "a", "manifest_path": "/nowhere/Cargo.toml", "readme": "README.md", "description": "x",
                "license": "MIT", "repository": "x", "rust_version": "1.94", "categories": ["x"],
                "keywords": ["1", "2", "3", "4", "5", "6"], "metadata": {"docs": {"rs": {}}}, "dependencies": []}"#,
        ));
        assert_eq!(found, ["a: its readme README.md does not exist", "a: `keywords` needs one to 5 words"]);
    }

    #[test]
    fn a_package_that_is_not_published_needs_nothing() {
        let found =
            violations(&workspace(r#"{"name": "a", "publish": [], "manifest_path": "/nowhere/Cargo.toml"}"#));
        assert_eq!(found, Vec::<String>::new());
    }
}
