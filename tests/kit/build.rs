//! Names the migration history by its sources, so that a template database is never used with another history.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a build script: it talks to cargo and may fail"
)]

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

fn main() {
    let kit = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let migrations = Path::new(&kit).join("../../migrations");
    println!("cargo::rerun-if-changed={}", migrations.join("src").display());
    println!("cargo::rerun-if-changed={}", migrations.join("Cargo.toml").display());

    let mut hasher = DefaultHasher::new();
    hash_folder(&migrations.join("src"), &mut hasher);
    println!("cargo::rustc-env=POSTRIDER_MIGRATIONS_HASH={:016x}", hasher.finish());
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = fs::read_dir(folder).expect("the migrations' sources");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_folder(&path, hasher);
        } else {
            path.file_name().hash(hasher);
            fs::read(&path).expect("a readable file").hash(hasher);
        }
    }
}
