//! `postrider plugins`: installs, lists and removes plugins over the API, and tries one without it.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

mod trial;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_api::plugin::PluginRequest;
use postrider_plugin::limits::MAX_MODULE;
use postrider_program::StartError;
use postrider_settings::ClientArgs;

use crate::connection::{client, failed};
use crate::say::say;
use crate::status::usage;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Install a plugin, or replace the one of this name
    Add(AddArgs),
    /// List the installed plugins
    List(ListArgs),
    /// Remove a plugin that no subscriber uses
    Remove(RemoveArgs),
    /// Run a plugin on one event, on this machine, and print what it returns, the fuel and the time that it took
    Test(trial::Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The WebAssembly module
    file: PathBuf,
    /// Name by which subscribers choose the plugin
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Version of the module, such as 1.2.0
    #[arg(long = "version", value_name = "VERSION")]
    module_version: String,
    #[command(flatten)]
    api: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    api: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// The plugin's name
    name: String,
    #[command(flatten)]
    api: ClientArgs,
}

pub(crate) async fn run(command: Command) -> Result<(), StartError> {
    match command {
        Command::Add(args) => add(args).await,
        Command::List(args) => list(args).await,
        Command::Remove(args) => remove(args).await,
        Command::Test(args) => trial::run(&args),
    }
}

async fn add(args: AddArgs) -> Result<(), StartError> {
    let module = module(&args.file)?;
    let request = PluginRequest {
        name: Some(args.name),
        version: Some(args.module_version),
        module: Some(STANDARD.encode(module)),
    };
    let added = client(&args.api)?.install_plugin(&request).await.map_err(failed)?;
    say(format_args!(
        "installed {} {}: {} bytes, SHA-256 {}",
        added.name, added.version, added.size, added.checksum
    ));
    Ok(())
}

async fn list(args: ListArgs) -> Result<(), StartError> {
    let plugins = client(&args.api)?.plugins().await.map_err(failed)?.data;
    say(format_args!("{:<24} {:<16} {:>8}  {:<25} checksum", "name", "version", "bytes", "installed"));
    for plugin in plugins {
        let (name, version) = (plugin.name.as_str(), plugin.version.as_str());
        let installed = plugin.created_at.to_string();
        say(format_args!("{name:<24} {version:<16} {:>8}  {installed:<25} {}", plugin.size, plugin.checksum));
    }
    Ok(())
}

async fn remove(args: RemoveArgs) -> Result<(), StartError> {
    client(&args.api)?.remove_plugin(&args.name).await.map_err(failed)?;
    say(format_args!("removed {}", args.name));
    Ok(())
}

/// Reads a module that is not too large to be one.
fn module(path: &Path) -> Result<Vec<u8>, StartError> {
    let unreadable = |error: std::io::Error| usage(format!("cannot read {}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_MODULE as u64 {
        return Err(usage(format!(
            "{} has {length} bytes; at most {MAX_MODULE} are allowed",
            path.display()
        )));
    }
    std::fs::read(path).map_err(unreadable)
}
