//! `postrider`: the tools that a person uses at a terminal.
#![allow(clippy::print_stdout, reason = "a terminal program talks on standard output")]

mod demo;
mod dev;
mod embedded;
mod migrate;
mod rekey;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postrider_telemetry::Program;

/// Delivers webhooks: a system to try, to develop against, and to run
#[derive(Debug, Parser)]
#[command(name = "postrider", version, subcommand_required = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows Postrider at work: dispatches events to receivers of its own, good and bad
    ///
    /// Needs nothing: the database is a temporary file, the receivers are in this process. Ends
    /// with 0 if every delivery came to the end that it must.
    Demo,
    /// Runs the API and a worker in this process, over SQLite in a data folder
    Dev(Box<dev::Args>),
    /// Brings a database to the current schema
    ///
    /// Safe while older programs run, and from several places at once.
    Migrate(migrate::Args),
    /// Seals what is stored under an older key under the first one of `POSTRIDER_SECRET_KEY`
    ///
    /// To rotate the key: add the new one behind the old one (`old,new`) and restart all programs;
    /// then put it first (`new,old`) and restart them; run this; then take the old one away.
    Rekey(rekey::Args),
}

fn main() -> ExitCode {
    postrider_program::main(Program::Whole, |args: Args, transforms| async move {
        match args.command {
            Command::Demo => demo::run().await,
            Command::Dev(args) => dev::run(*args, transforms).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Rekey(args) => rekey::run(args).await,
        }
    })
}
