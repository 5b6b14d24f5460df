//! `cargo xtask bench`: builds the programs and the benchmarks with optimisations, and runs them.

use std::{
    ffi::OsString,
    process::{Command, ExitStatus},
};

use crate::{
    Error,
    cargo::{cargo, run, status_of, target_folder, without_own_variables, workspace_root},
    postgres::with_version,
};

/// The packages to build: the programs under test and the benchmark itself.
const PACKAGES: [&str; 4] = ["postrider", "postrider-server", "postrider-worker", "postrider-bench"];

/// Runs the benchmarks. They start their own PostgreSQL, of the given major version if any; `tests/bench` documents the
/// arguments.
///
/// # Errors
/// Fails if the programs cannot be built or started. A run that lost an event is not an error but a status.
pub fn bench(version: Option<u32>, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let root = workspace_root();
    let mut build = cargo(&root);
    build.args(["build", "--release", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    let mut command = Command::new(target_folder()?.join("release/postrider-bench"));
    without_own_variables(&mut command);
    status_of(with_version(command.args(arguments), version))
}
