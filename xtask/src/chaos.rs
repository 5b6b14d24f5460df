//! `cargo xtask chaos`: builds the programs with their crash points, and the chaos test, and runs it.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, ExitStatus},
};

use crate::{
    Error,
    cargo::{cargo, run, status_of, target_folder, without_own_variables, workspace_root},
    test::with_version,
};

const PROGRAM: &str = "postrider-chaos";

/// Runs the chaos test. It starts its own PostgreSQL, of the given major version if any; `tests/chaos` documents the
/// arguments.
///
/// # Errors
/// Fails if the programs cannot be built or started. A failing test is not an error but a status.
pub fn chaos(release: bool, version: Option<u32>, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let root = workspace_root();
    let mut build = cargo(&root);
    // The whole workspace, as for the tests: with the same features nothing is compiled twice.
    build.args(["build", "--workspace", "--bins", "--features", "postrider-worker/failpoints"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;

    let profile = if release { "release" } else { "debug" };
    let mut command = Command::new(target_folder()?.join(profile).join(PROGRAM));
    without_own_variables(&mut command);
    status_of(with_version(command.args(arguments), version))
}

/// Runs a short chaos test with a fixed seed, for `cargo xtask test`.
///
/// # Errors
/// Fails like [`chaos`].
pub fn short(version: Option<u32>) -> Result<ExitStatus, Error> {
    chaos(false, version, &["--seconds", "10", "--seed", "1"].map(|argument| OsStr::new(argument).to_owned()))
}
