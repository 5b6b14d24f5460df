//! The files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Error;

/// Calls `visit` with each text file of the repository: its path from the root and its text. Skips the files of git and
/// cargo, and the data of `postrider dev` and of compose.
pub(super) fn each_text(root: &Path, visit: &mut dyn FnMut(&str, &str)) -> Result<(), Error> {
    for path in paths(root)? {
        // Skips binary files.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            visit(&path, &text);
        }
    }
    Ok(())
}

/// Returns whether a file is Rust.
pub(super) fn is_rust(path: &str) -> bool {
    has_extension(path, "rs")
}

/// Returns whether a file is Markdown.
pub(super) fn is_markdown(path: &str) -> bool {
    has_extension(path, "md")
}

fn has_extension(path: &str, wanted: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == wanted)
}

/// Returns the paths of all files, from the repository's root and with `/`, in order.
pub(super) fn paths(root: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    collect(root, root, &mut found)?;
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            // Cargo marks its target folder by `CACHEDIR.TAG`.
            let is_source = name != ".git" && name != "postrider-data" && !path.join("CACHEDIR.TAG").exists();
            if is_source && !(folder == root && name.to_string_lossy().starts_with("target")) {
                collect(root, &path, found)?;
            }
        } else if name != ".env" && name != ".git" {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            found.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
