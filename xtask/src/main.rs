//! `cargo xtask <task>`: the tasks of the Postrider workspace.
#![allow(clippy::print_stderr, reason = "a task prints to its user")]

use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus},
};

use clap::Parser;
use xtask::{Error, bench, chaos, lint, test};

/// Tasks of the Postrider workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run all checks of the sources, docs and packages; a warning is an error
    Lint {
        /// Only these checks, by name
        checks: Vec<String>,
    },
    /// Run all tests, against a throwaway PostgreSQL or the server in `POSTRIDER_TEST_DATABASE_URL`
    Test {
        /// Use this major version of PostgreSQL, 15 to 18; it is fetched if it is not installed
        #[arg(long = "postgres", value_name = "VERSION")]
        version: Option<u32>,
        /// Passed to `cargo test`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Kill, stop and disconnect real programs at random, then check that no event was lost (`chaos --help` says more)
    #[command(disable_help_flag = true)]
    Chaos {
        /// Build with optimisations
        #[arg(long)]
        release: bool,
        /// Use this major version of PostgreSQL, 15 to 18; it is fetched if it is not installed
        #[arg(long = "postgres", value_name = "VERSION")]
        version: Option<u32>,
        /// Passed to the chaos test: `--database sqlite` or `pgbouncer`, `--seconds N`, `--seed S`, `--rate N`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the benchmarks on release builds (`bench --help` says more)
    #[command(disable_help_flag = true)]
    Bench {
        /// Use this major version of PostgreSQL, 15 to 18; it is fetched if it is not installed
        #[arg(long = "postgres", value_name = "VERSION")]
        version: Option<u32>,
        /// Passed to the benchmarks: their names, `--events N`, `--seconds N`, `--json FILE`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a command with a throwaway PostgreSQL, whose URL is in `POSTRIDER_TEST_DATABASE_URL`
    Postgres {
        /// Use this major version of PostgreSQL, 15 to 18; it is fetched if it is not installed
        #[arg(long = "postgres", value_name = "VERSION")]
        version: Option<u32>,
        /// The command, as in `cargo xtask postgres -- cargo test -p postrider-queue`
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Error> {
    match task {
        Task::Lint { checks } => Ok(if lint::lint(&checks)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Task::Test { version, arguments } => test::test(version, &arguments).map(exit_code),
        Task::Chaos { release, mut version, mut arguments } => {
            take_version(&mut version, &mut arguments)?;
            chaos::chaos(release, version, &arguments).map(exit_code)
        }
        Task::Bench { mut version, mut arguments } => {
            take_version(&mut version, &mut arguments)?;
            bench::bench(version, &arguments).map(exit_code)
        }
        Task::Postgres { version, command } => match command.split_first() {
            Some((program, arguments)) => test::postgres(version, program, arguments).map(exit_code),
            None => Err(Error::Usage("give a command after `--`".to_owned())),
        },
    }
}

/// Takes `--postgres VERSION` out of the arguments of another program, where clap leaves it if it is not the first.
fn take_version(version: &mut Option<u32>, arguments: &mut Vec<OsString>) -> Result<(), Error> {
    let Some(place) = arguments.iter().position(|argument| argument == "--postgres") else { return Ok(()) };
    let given = arguments.get(place + 1).and_then(|given| given.to_str()?.parse().ok());
    let given =
        given.ok_or_else(|| Error::Usage("--postgres: expected a major version such as 18".to_owned()))?;
    *version = Some(given);
    arguments.drain(place..=place + 1);
    Ok(())
}

/// Returns the status as our own; 1 for a program that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_postgres_is_taken_from_the_arguments_of_another_program() {
        let arguments = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let (mut version, mut given) = (None, arguments("--seconds 60 --postgres 18 --seed 7"));
        assert!(take_version(&mut version, &mut given).is_ok());
        assert_eq!((version, given), (Some(18), arguments("--seconds 60 --seed 7")));
        assert!(take_version(&mut version, &mut arguments("--postgres new")).is_err());
    }
}
