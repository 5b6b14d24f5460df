//! `postrider`: the commands for a person at a terminal.
#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

#[cfg(feature = "client")]
mod client;
mod connection;
mod data_folder;
mod demo;
mod dev;
mod embedded;
#[cfg(all(test, feature = "client"))]
mod help;
mod migrate;
mod plugins;
mod profiles;
mod queue;
mod rekey;
mod retention;
mod say;
mod serve;
mod status;
mod whole;

use std::process::ExitCode;

#[cfg(feature = "client")]
use clap::CommandFactory as _;
use clap::{Parser, Subcommand};
use postrider_telemetry::Program;

/// Webhook delivery: run it, develop against it, use it and maintain it
#[derive(Debug, Parser)]
#[command(name = "postrider", version, subcommand_required = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deliver events to a healthy, a flaky and a dead receiver, and check the result
    ///
    /// Needs no setup: the database is a temporary file, and the receivers run in this process. Exits with 0 if every
    /// delivery ended as expected.
    Demo,
    /// Run the API and a worker in one process, over PostgreSQL or over SQLite in a folder
    ///
    /// For production: requires the encryption key and an operator's key, refuses targets on this machine and in private
    /// networks, and migrates the database at its start. Over PostgreSQL more of these processes, servers and workers may
    /// run beside it.
    Serve(Box<serve::Args>),
    /// Run the API and a worker in one process, over SQLite in a data folder, for development
    ///
    /// For development: generates both keys if they are not set, keeps them in the data folder, and allows targets on this
    /// machine.
    Dev(Box<dev::Args>),
    /// Migrate a database to the current schema
    ///
    /// Safe while programs of the previous version run, and to run from several places at once. A database of the first
    /// edition is an exception: stop all programs first.
    Migrate(migrate::Args),
    /// Re-encrypt stored secrets with the first key of POSTRIDER_SECRET_KEY
    ///
    /// To rotate the key: append the new key (old,new) and restart all programs; put it first (new,old) and restart them
    /// again; run this command; then remove the old key and restart them a last time.
    Rekey(rekey::Args),
    /// Fill a queue outside the database again, or move jobs to another queue
    #[command(subcommand)]
    Queue(queue::Command),
    /// Show or remove what is older than the retention
    #[command(subcommand)]
    Retention(retention::Command),
    /// Install, list, remove and try plugins, which change what subscribers receive
    #[command(subcommand)]
    Plugins(plugins::Command),
    #[cfg(feature = "client")]
    #[command(flatten)]
    Client(client::Command),
}

fn main() -> ExitCode {
    #[cfg(feature = "client")]
    if client::complete::answer(Args::command) {
        return ExitCode::SUCCESS;
    }
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let status = postrider_program::main(Program::Whole, |args: Args, given| async move {
        match args.command {
            Command::Demo => demo::run().await,
            Command::Serve(args) => serve::run(*args, given).await,
            Command::Dev(args) => dev::run(*args, given).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Rekey(args) => rekey::run(args).await,
            Command::Queue(command) => queue::run(command).await,
            Command::Retention(command) => retention::run(command).await,
            Command::Plugins(command) => plugins::run(command).await,
            #[cfg(feature = "client")]
            Command::Client(command) => client::run(command, Args::command()).await,
        }
    });
    say::flush();
    status
}
