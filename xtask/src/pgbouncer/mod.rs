//! Versions of PgBouncer for the tests.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    cargo::{run, target_folder},
};

/// The environment variable that names the programs to test with, like `PATH`.
pub const PGBOUNCERS_VARIABLE: &str = "POSTRIDER_TEST_PGBOUNCERS";

/// Unpacks the packages of a release of Debian into a folder.
const FETCH: &str = include_str!("fetch.sh");

/// Releases of Debian, and the packages that PgBouncer needs besides what any machine has: version 1.18, which cannot
/// prepare statements in transaction mode, and 1.24, which can.
const RELEASES: [(&str, &[&str]); 2] = [
    ("bookworm", &["pgbouncer", "libevent-2.1-7", "libc-ares2"]),
    ("trixie", &["pgbouncer", "libc6", "libssl3t64", "libevent-2.1-7t64", "libcares2"]),
];

/// The programs for [`PGBOUNCERS_VARIABLE`]: those that it names already, or else Debian's of two releases, which are
/// fetched once. Without them their tests print that they are skipped.
pub(crate) fn programs() -> OsString {
    if let Some(given) = env::var_os(PGBOUNCERS_VARIABLE).filter(|given| !given.is_empty()) {
        return given;
    }
    let found: Vec<PathBuf> = RELEASES
        .iter()
        .filter_map(|(release, packages)| match program(release, packages) {
            Ok(path) => Some(path),
            Err(error) => {
                println!("skipped: no PgBouncer of Debian's {release}: {error}");
                None
            }
        })
        .collect();
    env::join_paths(found).unwrap_or_default()
}

fn program(release: &str, packages: &[&str]) -> Result<PathBuf, Error> {
    let folder = target_folder()?.join("pgbouncer").join(release);
    let program = folder.join("pgbouncer");
    if !program.is_file() {
        fetch(&folder, release, packages)?;
    }
    Ok(program)
}

fn fetch(folder: &Path, release: &str, packages: &[&str]) -> Result<(), Error> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(Error::file(parent))?;
    run(Command::new("sh").args(["-c", FETCH, "fetch"]).arg(folder).arg(release).args(packages))
}
