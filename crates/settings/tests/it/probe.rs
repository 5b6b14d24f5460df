use std::process::Command;

use clap::Parser;
use postrider_telemetry::Program;

use crate::All;

const ARGS: &str = "SETTINGS_PROBE_ARGS";
const BEGIN: &str = "<<probe>>";

/// A program with two subcommands and few settings.
#[derive(Debug, Parser)]
struct Small {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Run.
    Dev {
        #[command(flatten)]
        retry: postrider_settings::RetryArgs,
        #[command(flatten)]
        telemetry: postrider_settings::TelemetryArgs,
    },
    /// Do something else.
    Other {
        #[command(flatten)]
        retry: postrider_settings::RetryArgs,
    },
}

/// Returns the settings that a process with these variables and arguments reads, as `Debug` prints them, or the error.
pub(crate) fn all(variables: &[(&str, &str)], args: &[&str]) -> String {
    run("probe::all_in_a_process", variables, args)
}

/// Like [`all`], for a program with subcommands.
pub(crate) fn small(variables: &[(&str, &str)], args: &[&str]) -> String {
    run("probe::small_in_a_process", variables, args)
}

/// Returns the telemetry configuration of a process with these variables, or the error.
pub(crate) fn telemetry(variables: &[(&str, &str)]) -> String {
    run("probe::telemetry_in_a_process", variables, &[])
}

fn run(probe: &str, variables: &[(&str, &str)], args: &[&str]) -> String {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", probe, "--ignored", "--nocapture"]).env(ARGS, args.join("\n"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("POSTRIDER_") || name.starts_with("OTEL_"))
    {
        process.env_remove(name);
    }
    let output = process.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let shown: Vec<_> = text.split(BEGIN).collect();
    assert_eq!(shown.len(), 3, "{text}");
    shown[1].to_owned()
}

fn given() -> Vec<String> {
    let args = std::env::var(ARGS).unwrap_or_default();
    std::iter::once("program")
        .chain(args.split('\n').filter(|arg| !arg.is_empty()))
        .map(str::to_owned)
        .collect()
}

fn show<P: Parser + std::fmt::Debug>(program: Program) {
    match postrider_settings::parse::<P>(program, given()) {
        Ok(read) => println!("{BEGIN}{read:?}{BEGIN}"),
        Err(error) => println!("{BEGIN}exit {}: {error}{BEGIN}", error.exit_code()),
    }
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn all_in_a_process() {
    show::<All>(Program::Server);
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn small_in_a_process() {
    show::<Small>(Program::Worker);
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn telemetry_in_a_process() {
    let read = postrider_settings::parse::<All>(Program::Server, given()).unwrap();
    match read.args.telemetry.config(Program::Server) {
        Ok(config) => println!("{BEGIN}{config:?}{BEGIN}"),
        Err(error) => println!("{BEGIN}{error}{BEGIN}"),
    }
}
