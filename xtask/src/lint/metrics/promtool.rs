//! Prometheus' own checks, run if Prometheus is installed.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Error, cargo::status_of};

/// The checks. They run in the folder of the files, since the paths in those are relative.
const CHECKS: [&[&str]; 3] = [
    &["check", "rules", "alerts.yml"],
    &["check", "config", "prometheus.yml"],
    &["test", "rules", "alerts_test.yml"],
];

/// Returns whether `promtool` found no problem. Without promtool it prints a note and returns true.
pub(in crate::lint) fn promtool_is_clean(root: &Path) -> Result<bool, Error> {
    let promtool = || {
        let mut command = Command::new("promtool");
        command.current_dir(root.join("deploy/prometheus"));
        command
    };
    let found = promtool().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        println!("lint: promtool: skipped: promtool is not on PATH (it comes with Prometheus)");
        return Ok(true);
    }
    let mut clean = true;
    for check in CHECKS {
        println!("lint: promtool {}", check.join(" "));
        clean &= status_of(promtool().args(check).stdout(Stdio::null()))?.success();
    }
    Ok(clean)
}
