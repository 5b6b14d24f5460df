use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::workspace::{Package, Workspace};
use crate::Error;

/// Returns dependencies that no source of their package names. An approximation that takes no time.
pub(super) fn violations(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        let mut sources = Vec::new();
        collect_sources(&package.folder, &mut sources)?;
        let unused: BTreeSet<&str> = unused(package, &sources).collect();
        found.extend(unused.into_iter().map(|dependency| {
            format!(
                "{} does not use its dependency {dependency}: remove it, or name it in \
                 `[package.metadata.xtask] unused-ok` with the reason",
                package.name
            )
        }));
    }
    Ok(found)
}

fn unused<'a>(package: &'a Package, sources: &'a [String]) -> impl Iterator<Item = &'a str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| !package.unused_ok.contains(&dependency.package))
        .filter(|dependency| {
            let identifier = dependency.identifier();
            !sources.iter().any(|source| names(source, &identifier))
        })
        .map(|dependency| dependency.package.as_str())
}

fn collect_sources(folder: &Path, sources: &mut Vec<String>) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // Skips the folders of other packages and the target folder, which cargo marks by `CACHEDIR.TAG`.
            if !path.join("Cargo.toml").exists() && !path.join("CACHEDIR.TAG").exists() {
                collect_sources(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(&path).map_err(Error::file(path))?);
        }
    }
    Ok(())
}

/// Returns whether a source names a crate: by `name::…`, `use` or `extern crate`. A bare word does not count, because
/// `url` or `bytes` may be a variable.
fn names(source: &str, identifier: &str) -> bool {
    source.match_indices(identifier).any(|(start, _)| {
        let (before, after) = (&source[..start], &source[start + identifier.len()..]);
        let is_whole =
            !before.ends_with(is_word) && !after.starts_with(is_word) && !before.ends_with("crate::");
        let is_path = after.starts_with("::");
        let is_import = ["use ", "extern crate "].iter().any(|keyword| before.ends_with(keyword));
        is_whole && (is_path || is_import)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::{
        super::workspace::{Dependency, Kind, Manifest},
        *,
    };

    #[test]
    fn a_crate_is_named_by_a_path_or_an_import() {
        for source in ["url::Url::parse(x)", "use url;", "use url as u;", "extern crate url;", "#[url::main]"]
        {
            assert!(names(source, "url"), "{source}");
        }
        for source in ["let url = 1;", "my_url::x", "url_encoded::x", "crate::url::x", "// url", "reuse urls"]
        {
            assert!(!names(source, "url"), "{source}");
        }
    }

    #[test]
    fn an_unused_dependency_is_found_under_its_name_in_the_sources() {
        let dependency = |package: &str, rename: Option<&str>| Dependency {
            package: package.to_owned(),
            rename: rename.map(str::to_owned),
            kind: Kind::Normal,
            is_path: false,
            requirement: "^1".to_owned(),
        };
        let package = Package {
            name: "x".to_owned(),
            folder: PathBuf::new(),
            targets: Vec::new(),
            is_published: true,
            manifest: Manifest::default(),
            dependencies: vec![
                dependency("tokio-util", None),
                dependency("serde_json", Some("json")),
                dependency("hex", None),
                dependency("ring", None),
            ],
            unused_ok: vec!["ring".to_owned()],
        };
        let sources = ["use tokio_util::sync;".to_owned(), "json::from_str(x)".to_owned()];
        assert_eq!(unused(&package, &sources).collect::<Vec<_>>(), ["hex"]);
    }
}
