//! `cargo xtask chaos`: builds the programs with their crash points, and the chaos test, and runs it.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, ExitStatus, Stdio},
};

use crate::{
    Error,
    cargo::{cargo, run, status_of, target_folder, without_own_variables, workspace_root},
    pgbouncer::{self, PGBOUNCERS_VARIABLE},
    postgres::{is_root, with_version},
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
    build.args([
        "build",
        "--workspace",
        "--bins",
        "--features",
        "postrider/failpoints,postrider-worker/failpoints",
    ]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;

    let profile = if release { "release" } else { "debug" };
    let program = target_folder()?.join(profile).join(PROGRAM);
    let mut command = if has_own_mounts()? {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    without_own_variables(&mut command);
    if arguments.iter().any(|argument| argument.to_string_lossy().ends_with("pgbouncer")) {
        command.env(PGBOUNCERS_VARIABLE, pgbouncer::programs());
    }
    status_of(with_version(command.args(arguments), version))
}

/// Whether this process can give the chaos test mounts of its own, which vanish with it. It fills a small file system.
fn has_own_mounts() -> Result<bool, Error> {
    let tried = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    Ok(is_root()? && tried.is_ok_and(|status| status.success()))
}

/// Runs a short chaos test with a fixed seed over each database, for `cargo xtask test`.
///
/// # Errors
/// Fails like [`chaos`].
pub fn short(version: Option<u32>) -> Result<ExitStatus, Error> {
    let run = |database: &str| {
        let arguments = ["--database", database, "--seconds", "10", "--seed", "1"];
        chaos(false, version, &arguments.map(|argument| OsStr::new(argument).to_owned()))
    };
    let status = run("postgres")?;
    if status.success() { run("sqlite") } else { Ok(status) }
}
