//! Calling cargo and other programs.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::Error;

/// Variables that `cargo run` sets for this task. Passed on, they would make build scripts run again.
const OF_THIS_TASK: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// Returns the folder of the workspace.
pub fn workspace_root() -> PathBuf {
    // `cargo run` sets this to the current checkout, even if the binary was built in another one.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Returns a call of the cargo that runs this task, as if typed in `folder`.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    let root = workspace_root();
    if folder != root && env::var_os("CARGO_TARGET_DIR").is_none() {
        // The other workspace shares its dependencies with this one, so they are built once.
        command.env("CARGO_TARGET_DIR", root.join("target"));
    }
    without_own_variables(&mut command);
    command
}

/// Removes the variables that `cargo run` set for this task alone.
pub fn without_own_variables(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OF_THIS_TASK.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// Runs a program to its end and returns its status.
///
/// # Errors
/// Fails if the program cannot be started.
pub fn status_of(command: &mut Command) -> Result<ExitStatus, Error> {
    command.status().map_err(Error::spawn(name_of(command)))
}

/// Runs a program that must succeed.
///
/// # Errors
/// Fails if the program cannot be started or fails.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let status = status_of(command)?;
    if status.success() { Ok(()) } else { Err(Error::Failed { program: name_of(command), status }) }
}

/// Runs a program that must succeed and returns its standard output. Its standard error goes to the terminal.
///
/// # Errors
/// Fails if the program cannot be started or fails.
pub fn output_of(command: &mut Command) -> Result<String, Error> {
    let output = command.stderr(Stdio::inherit()).output().map_err(Error::spawn(name_of(command)))?;
    if !output.status.success() {
        return Err(Error::Failed { program: name_of(command), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name_of(command: &Command) -> String {
    let mut name = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        name.push(' ');
        name.push_str(&argument.to_string_lossy());
    }
    name
}

/// Returns cargo's target folder.
pub(crate) fn target_folder() -> Result<PathBuf, Error> {
    let mut command = cargo(&workspace_root());
    let metadata = output_of(command.args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target")))
}
