use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    Error,
    cargo::{cargo, output_of},
};

/// The part of `cargo metadata` that the checks need.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
}

#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// The folder of its manifest.
    pub(super) folder: PathBuf,
    /// The root files of its library and its programs.
    pub(super) targets: Vec<PathBuf>,
    pub(super) is_published: bool,
    pub(super) manifest: Manifest,
    pub(super) dependencies: Vec<Dependency>,
    /// `[package.metadata.xtask] unused-ok`: dependencies that no source has to name.
    pub(super) unused_ok: Vec<String>,
}

/// The fields of a manifest for crates.io and docs.rs. A missing one is empty.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) description: String,
    pub(super) license: String,
    pub(super) repository: String,
    pub(super) readme: String,
    pub(super) rust_version: String,
    /// The number of keywords.
    pub(super) keywords: usize,
    /// The number of categories.
    pub(super) categories: usize,
    pub(super) has_docs_rs: bool,
}

#[derive(Debug)]
pub(super) struct Dependency {
    /// The package's name.
    pub(super) package: String,
    /// The name in the sources; `None` if it is the package's own.
    pub(super) rename: Option<String>,
    pub(super) kind: Kind,
    /// Whether the manifest gives its path.
    pub(super) is_path: bool,
    /// The version requirement; `*` if the manifest gives none.
    pub(super) requirement: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Workspace {
    pub(super) fn of(root: &Path) -> Result<Self, Error> {
        let mut command = cargo(root);
        command.args(["metadata", "--format-version=1", "--no-deps"]);
        Self::of_metadata(&output_of(&mut command)?)
    }

    pub(super) fn of_metadata(text: &str) -> Result<Self, Error> {
        let metadata: Value = serde_json::from_str(text)?;
        let packages = elements(&metadata["packages"]).map(Package::of).collect();
        Ok(Self { packages })
    }
}

impl Package {
    fn of(package: &Value) -> Self {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        Self {
            name: text(&package["name"]),
            folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
            targets: elements(&package["targets"])
                .filter(|target| {
                    elements(&target["kind"]).any(|kind| matches!(kind.as_str(), Some("lib" | "bin")))
                })
                .map(|target| PathBuf::from(text(&target["src_path"])))
                .collect(),
            // `publish = false` is an empty list of registries.
            is_published: package["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            manifest: Manifest::of(package),
            dependencies: elements(&package["dependencies"]).map(Dependency::of).collect(),
            unused_ok: elements(&package["metadata"]["xtask"]["unused-ok"]).map(text).collect(),
        }
    }
}

impl Manifest {
    fn of(package: &Value) -> Self {
        Self {
            description: text(&package["description"]),
            license: text(&package["license"]),
            repository: text(&package["repository"]),
            readme: text(&package["readme"]),
            rust_version: text(&package["rust_version"]),
            keywords: elements(&package["keywords"]).count(),
            categories: elements(&package["categories"]).count(),
            has_docs_rs: package["metadata"]["docs"]["rs"].is_object(),
        }
    }
}

impl Dependency {
    fn of(dependency: &Value) -> Self {
        Self {
            package: text(&dependency["name"]),
            rename: dependency["rename"].as_str().map(str::to_owned),
            kind: match dependency["kind"].as_str() {
                Some("dev") => Kind::Dev,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            },
            is_path: dependency["path"].is_string(),
            requirement: text(&dependency["req"]),
        }
    }

    /// Its name in the sources.
    pub(super) fn identifier(&self) -> String {
        self.rename.as_ref().unwrap_or(&self.package).replace('-', "_")
    }
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
