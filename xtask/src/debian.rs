//! Programs and libraries of Debian that some tests need. They skip what they cannot do without them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{Error, cargo::run, postgres::is_root};

/// A package, and where it and those of other distributions put what the tests need.
pub(crate) struct Package {
    name: &'static str,
    files: &'static [&'static str],
}

/// libfaketime, with which black-box tests give a program a wrong clock.
pub(crate) const FAKETIME: Package = Package {
    name: "faketime",
    files: &[
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib64/faketime/libfaketime.so.1",
        "/usr/lib/faketime/libfaketime.so.1",
    ],
};

/// nginx, a receiver of the delivery tests.
pub(crate) const NGINX: Package =
    Package { name: "nginx-light", files: &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"] };

/// Redis, the queue of some tests.
pub(crate) const REDIS: Package = Package {
    name: "redis-server",
    files: &[
        "/usr/bin/redis-server",
        "/usr/local/bin/redis-server",
        "/usr/bin/valkey-server",
        "/usr/local/bin/valkey-server",
    ],
};

/// Chromium and its driver, for the tests of the console in a browser.
pub(crate) const CHROMIUM: Package = Package {
    name: "chromium-driver",
    files: &["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver", "/usr/local/bin/chromedriver"],
};

/// Installs a package with apt-get, if its files are missing and that is allowed. A failure is not an error.
pub(crate) fn install_if_missing(package: &Package) {
    let Package { name, files } = package;
    if files.iter().any(|file| Path::new(file).is_file()) || !may_install().unwrap_or(false) {
        return;
    }
    eprintln!("xtask: found no {name}; installing it with apt-get");
    let installed = [&["update"][..], &["install", "--no-install-recommends", name]]
        .into_iter()
        .try_for_each(|arguments| {
            let mut command = Command::new("apt-get");
            command.args(["--quiet", "--yes", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
            run(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
        });
    if let Err(error) = installed {
        eprintln!("xtask: {name} was not installed, so a test will be skipped: {error}");
    }
}

fn may_install() -> Result<bool, Error> {
    Ok(is_root()? && Path::new("/usr/bin/apt-get").is_file())
}
