//! The example plugin of the SDK, built for WebAssembly.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds `crates/plugin-sdk/examples/redact.rs`, and returns the module's file. `None` if the compiler has no standard library
/// for WebAssembly, which `cargo xtask test` installs where it can. On CI that is a failure.
pub fn redact() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn build() -> Option<PathBuf> {
    if !target_is_installed() {
        assert!(env::var_os("CI").is_none(), "the compiler cannot build for {TARGET}");
        eprintln!("skipped: the compiler cannot build for {TARGET}; try `rustup target add {TARGET}`");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A folder of its own, so that it waits for no other build.
    let folder = root.join("target/plugins");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        // Those of the test itself would make the build start over.
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    let status = command
        .current_dir(&root)
        .args(["build", "--quiet", "--package", "postrider-plugin-sdk", "--example", "redact"])
        .args(["--profile", "plugin", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .status()
        .expect("cargo");
    assert!(status.success(), "the example plugin does not build for {TARGET}");
    Some(folder.join(TARGET).join("plugin/examples/redact.wasm"))
}

fn target_is_installed() -> bool {
    let printed = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    printed.is_ok_and(|printed| Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir())
}
