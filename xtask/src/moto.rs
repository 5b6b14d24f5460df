//! A server that does what Amazon SQS does, for the tests.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

use crate::cargo::target_folder;

/// The variable that names the folder with the Python library `moto`.
pub(crate) const MOTO_VARIABLE: &str = "POSTRIDER_TEST_MOTO";

/// The library and its server.
const PACKAGE: &str = "moto[server]==5.2.1";

/// The folder for [`MOTO_VARIABLE`]: empty if Python finds the library by itself, or if it cannot be installed, which skips the
/// tests that need it.
pub(crate) fn folder() -> OsString {
    if let Some(given) = env::var_os(MOTO_VARIABLE).filter(|given| !given.is_empty()) {
        return given;
    }
    let finds = |folder: Option<&OsString>| {
        let mut python = Command::new("python3");
        python.args(["-c", "import moto.server"]).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(folder) = folder {
            python.env("PYTHONPATH", folder);
        }
        python.status().is_ok_and(|status| status.success())
    };
    if finds(None) {
        return OsString::new();
    }
    let Ok(target) = target_folder() else { return OsString::new() };
    let folder = target.join("moto").into_os_string();
    if !finds(Some(&folder)) {
        eprintln!("xtask: found no moto; installing it with pip");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--target",
        ]);
        if !pip.arg(&folder).arg(PACKAGE).status().is_ok_and(|status| status.success()) {
            eprintln!("xtask: moto was not installed, so tests of queues on SQS will be skipped");
        }
    }
    folder
}
