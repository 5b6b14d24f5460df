//! `cargo xtask test` and `cargo xtask postgres`: commands around a throwaway PostgreSQL.

use std::{
    env,
    ffi::{OsStr, OsString},
    process::{Command, ExitStatus},
};

use crate::{
    Error,
    cargo::{cargo, status_of, without_own_variables, workspace_root},
    chaos,
    debian::{self, CHROMIUM, FAKETIME, NGINX, REDIS},
    moto::{self, MOTO_VARIABLE},
    pgbouncer::{self, PGBOUNCERS_VARIABLE},
    postgres::{Durability, Options, Postgres, URL_VARIABLE, with_version},
};

/// The package whose tests run the programs of the others.
const BLACKBOX: &str = "postrider-blackbox";

/// The package whose tests deliver to real web servers.
const DELIVERY: &str = "postrider-delivery";

/// The package whose tests need Redis.
const QUEUE_ON_REDIS: &str = "postrider-queue-redis";

/// The package whose tests need moto.
const QUEUE_ON_SQS: &str = "postrider-queue-sqs";

/// The variable of Rust's test harness that says how many tests run at once.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// The package whose tests build a plugin.
const PLUGIN: &str = "postrider-plugin";

/// The package whose examples run the program `postrider`.
const TESTING: &str = "postrider-testing";

/// The variable that names that program for them. `.cargo/config.toml` knows only the usual target folder.
const PROGRAM_VARIABLE: &str = "POSTRIDER_TEST_PROGRAM";

/// A separate workspace that uses the crates as another project would.
pub(crate) const EMBEDDING: &str = "tests/embedding";

/// Tests the whole workspace against a throwaway PostgreSQL, of the given major version if any, or the one that
/// `POSTRIDER_TEST_DATABASE_URL` names.
/// The arguments are passed to `cargo test`. When all packages are tested, a short chaos test follows.
///
/// # Errors
/// Fails if the server or cargo cannot be started. Failing tests are not an error but a status.
pub fn test(version: Option<u32>, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let server = Server::given_or_started(version)?;
    let root = workspace_root();
    let cargo_arguments = before_double_dash(arguments);
    let everything = !cargo_arguments.iter().any(|argument| selects_packages(argument));

    // Black-box tests run the programs, but cargo builds only the programs of the tested package. With `--tests`, both
    // builds have the same features, so nothing is compiled twice.
    let names = |package| cargo_arguments.iter().any(|argument| argument.to_string_lossy().contains(package));
    if everything || names(DELIVERY) {
        debian::install_if_missing(&NGINX);
    }
    if everything || names(QUEUE_ON_REDIS) || names(BLACKBOX) {
        debian::install_if_missing(&REDIS);
    }
    if everything || names(PLUGIN) || names(BLACKBOX) {
        install_target(WEBASSEMBLY);
    }
    if everything || names(BLACKBOX) {
        debian::install_if_missing(&FAKETIME);
        debian::install_if_missing(&CHROMIUM);
    }
    if everything || names(BLACKBOX) || names(TESTING) {
        let mut build = cargo(&root);
        build.args(["build", "--workspace", "--bins", "--tests"]).args(build_arguments(cargo_arguments));
        let status = status_of(&mut build)?;
        if !status.success() {
            return Ok(status);
        }
    }

    let mut tests = cargo(&root);
    tests.arg("test");
    if everything {
        tests.arg("--workspace");
    }
    tests.args(arguments).env(PGBOUNCERS_VARIABLE, pgbouncer::programs());
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        tests.env(PROGRAM_VARIABLE, root.join(target).join("debug/postrider"));
    }
    if everything || names(QUEUE_ON_SQS) || names(BLACKBOX) {
        tests.env(MOTO_VARIABLE, moto::folder());
    }
    if env::var_os(THREADS_VARIABLE).is_none() {
        tests.env(THREADS_VARIABLE, threads().to_string());
    }
    let status = status_of(server.pass_to(&mut tests))?;

    if !status.success() || !everything {
        return Ok(status);
    }
    let status = chaos::short(version)?;
    let embedding = root.join(EMBEDDING);
    if !status.success() || !embedding.join("Cargo.toml").is_file() {
        return Ok(status);
    }
    status_of(server.pass_to(cargo(&embedding).arg("test").args(arguments)))
}

/// How many tests run at once: one more than there are cores, since most of them wait for most of their time.
fn threads() -> usize {
    1 + std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs a command with a throwaway PostgreSQL around it, of the given major version if any, named by
/// `POSTRIDER_TEST_DATABASE_URL`.
///
/// # Errors
/// Fails if the server or the command cannot be started. A failing command is not an error but a status.
pub fn postgres(version: Option<u32>, program: &OsStr, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let server = Server::given_or_started(version)?;
    let mut command = Command::new(program);
    without_own_variables(&mut command);
    status_of(server.pass_to(command.args(arguments)))
}

/// What plugins are built for.
const WEBASSEMBLY: &str = "wasm32-unknown-unknown";

/// Installs the standard library for a target. A failure is not an error: the compiler may not come from rustup.
fn install_target(target: &str) {
    let added = Command::new("rustup").args(["--quiet", "target", "add", target]).status();
    if !added.is_ok_and(|status| status.success()) {
        eprintln!("xtask: {target} was not installed, so tests may be skipped");
    }
}

struct Server {
    url: String,
    version: Option<u32>,
    /// Keeps the server alive while the command runs; `None` for a server given from outside.
    _own: Option<Postgres>,
}

impl Server {
    fn given_or_started(version: Option<u32>) -> Result<Self, Error> {
        match (env::var(URL_VARIABLE), version) {
            (Ok(url), None) if !url.is_empty() => Ok(Self { url, version, _own: None }),
            (Ok(url), Some(version)) if !url.is_empty() => Err(Error::Usage(format!(
                "--postgres {version}: {URL_VARIABLE} already names a server; unset it"
            ))),
            _ => {
                let own = Postgres::start(&Options::new(Durability::Off).version(version))?;
                Ok(Self { url: own.url(), version, _own: Some(own) })
            }
        }
    }

    /// Names the server to a command, and the version of servers that the command starts.
    fn pass_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        with_version(command.env(URL_VARIABLE, &self.url), self.version)
    }
}

/// Returns the arguments for cargo, without those for the test executables.
fn before_double_dash(arguments: &[OsString]) -> &[OsString] {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    &arguments[..end]
}

fn selects_packages(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|argument| {
        (argument.starts_with("-p") && !argument.starts_with("--"))
            || argument == "--package"
            || argument.starts_with("--package=")
    })
}

/// Returns the arguments of `cargo test` that decide where the programs are built.
fn build_arguments(arguments: &[OsString]) -> Vec<&OsStr> {
    let mut kept = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--release" | "-r" | "--locked" | "--offline" | "--frozen" | "-q" | "--quiet") => {
                kept.push(argument.as_os_str());
            }
            Some("--profile" | "--target-dir" | "--target") => {
                kept.push(argument.as_os_str());
                kept.extend(arguments.next().map(OsString::as_os_str));
            }
            Some(other)
                if ["--profile=", "--target-dir=", "--target="].iter().any(|own| other.starts_with(own)) =>
            {
                kept.push(argument.as_os_str());
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_build_gets_only_arguments_that_decide_its_place() {
        let given = arguments("-p x --release --profile ci --target-dir=t name -- --nocapture --release");
        assert_eq!(
            build_arguments(before_double_dash(&given)),
            ["--release", "--profile", "ci", "--target-dir=t"]
        );
    }

    #[test]
    fn a_package_is_selected_by_any_spelling_of_the_flag() {
        for argument in ["-p", "-pname", "--package", "--package=name"] {
            assert!(selects_packages(OsStr::new(argument)), "{argument}");
        }
        for argument in ["--profile", "name", "--release"] {
            assert!(!selects_packages(OsStr::new(argument)), "{argument}");
        }
    }
}
