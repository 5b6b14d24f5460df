//! libfaketime, with which black-box tests give a program a wrong clock. They skip that without it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{Error, cargo::run, postgres::is_root};

/// Where Debian's package `faketime` and those of other distributions put the library.
const FILES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// Installs the library with apt-get, if it is missing and that is allowed. A failure is not an error.
pub(crate) fn install_if_missing() {
    if FILES.iter().any(|file| Path::new(file).is_file()) || !may_install().unwrap_or(false) {
        return;
    }
    eprintln!("xtask: found no libfaketime; installing it with apt-get");
    let installed = [&["update"][..], &["install", "--no-install-recommends", "faketime"]]
        .into_iter()
        .try_for_each(|arguments| {
            let mut command = Command::new("apt-get");
            command.args(["--quiet", "--yes", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
            run(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
        });
    if let Err(error) = installed {
        eprintln!("xtask: libfaketime was not installed, so a test will be skipped: {error}");
    }
}

fn may_install() -> Result<bool, Error> {
    Ok(is_root()? && Path::new("/usr/bin/apt-get").is_file())
}
