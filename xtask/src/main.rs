//! `cargo xtask <task>`: the tasks of the Postrider workspace.
#![allow(clippy::print_stderr, reason = "a task talks to the person who runs it")]

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
    /// All checks of the sources, docs and packages; a warning is an error
    Lint {
        /// Only these checks, by name
        checks: Vec<String>,
    },
    /// All tests, against a throwaway PostgreSQL or the one that `POSTRIDER_TEST_DATABASE_URL` names
    Test {
        /// Passed to `cargo test`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Real programs, killed, stopped and cut off at random: is anything lost? (`--help` after it says more)
    #[command(disable_help_flag = true)]
    Chaos {
        /// Build and run with optimisations
        #[arg(long)]
        release: bool,
        /// Passed to the chaos test: `--seconds N`, `--seed S`, `--rate N`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The benchmarks, on real programs with optimisations (`--help` after it says more)
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the benchmarks: which, `--events N`, `--seconds N`, `--json FILE`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// A command with a throwaway PostgreSQL around it, named by `POSTRIDER_TEST_DATABASE_URL`
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
            None => Err(Error::Usage("name a command after `--`".to_owned())),
        },
    }
}

/// The same code for our caller; one for a program that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
