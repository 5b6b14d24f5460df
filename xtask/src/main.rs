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
        /// Passed to the chaos test: `--seconds N`, `--seed S`, `--rate N`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the benchmarks on release builds (`bench --help` says more)
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the benchmarks: their names, `--events N`, `--seconds N`, `--json FILE`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a command with a throwaway PostgreSQL, whose URL is in `POSTRIDER_TEST_DATABASE_URL`
    Postgres {
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
        Task::Test { arguments } => test::test(&arguments).map(exit_code),
        Task::Chaos { release, arguments } => chaos::chaos(release, &arguments).map(exit_code),
        Task::Bench { arguments } => bench::bench(&arguments).map(exit_code),
        Task::Postgres { command } => match command.split_first() {
            Some((program, arguments)) => test::postgres(program, arguments).map(exit_code),
            None => Err(Error::Usage("give a command after `--`".to_owned())),
        },
    }
}

/// Returns the status as our own; 1 for a program that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
