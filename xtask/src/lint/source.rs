//! The Rust sources of a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::TokenStream;

use crate::Error;

/// Calls `visit` with each Rust source below a folder.
pub(super) fn each(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) -> Result<(), Error> {
    for path in entries(folder)? {
        if path.is_dir() {
            each(&path, visit)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &fs::read_to_string(&path).map_err(Error::file(&path))?);
        }
    }
    Ok(())
}

/// Returns the `src` folders of the packages in a folder.
pub(super) fn folders(packages: &Path) -> Result<Vec<PathBuf>, Error> {
    let sources = entries(packages)?.into_iter().map(|package| package.join("src"));
    Ok(sources.filter(|folder| folder.is_dir()).collect())
}

/// Returns whether an attribute is `cfg(test)`, `cfg(all(test, …))` or `test`.
pub(super) fn is_test(attribute: &TokenStream) -> bool {
    let text: String = attribute.to_string().chars().filter(|character| !character.is_whitespace()).collect();
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,") || text.ends_with("::test")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}
