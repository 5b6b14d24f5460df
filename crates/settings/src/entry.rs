//! From a command line to a program's arguments.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, Parser, value_parser};
use postrider_telemetry::Program;

use crate::file::{File, FileError};

const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "POSTRIDER_CONFIG";

/// What a program was told.
#[derive(Debug)]
pub struct Settings<P> {
    /// Its arguments.
    pub args: P,
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// The file's `[[transforms]]`, as they are: for `postrider_dispatch::Transforms::configure`.
    pub transforms: Option<toml::Value>,
}

/// Reads a program's settings from `args` (its own name first), the environment and the settings file.
///
/// `--config PATH` is added to the arguments of `P` and its subcommands. A file may hold any setting of
/// any Postrider program, so that one file serves them all; what `P` does not have is passed over. A
/// variable that is empty counts as unset.
///
/// # Errors
/// For the program to print and exit with ([`clap::Error::print`], [`clap::Error::exit_code`]): also
/// `--help` and `--version` are such. Messages name argument, variable and file, and show no secrets.
pub fn parse<P: Parser>(
    program: Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Settings<P>, clap::Error> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let path = config_path(&args);
    let file = match path.as_deref().map(|path| File::read(path, &known::<P>())).transpose() {
        Ok(file) => file.unwrap_or_default(),
        // Who asks for help must get it whatever is wrong with the file.
        Err(error) => return Err(help(command::<P>(program, &File::default()), &args, &error)),
    };
    let mut command = command::<P>(program, &file);
    let parsed = command.try_get_matches_from_mut(&args);
    let mut matches = parsed.map_err(|error| name_setting(error, &command, &file, path.as_deref()))?;
    let args = P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(Settings { args, file: path, transforms: file.transforms })
}

/// Where the settings file is. Found by hand: clap needs the file's values before it can parse.
fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1).take_while(|arg| *arg != "--");
    let mut found = None;
    while let Some(arg) = args.next() {
        if arg == "--config" {
            found = args.next().map(PathBuf::from);
        } else if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            found = Some(path.into());
        }
    }
    found
        .or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from))
        .filter(|path| !path.as_os_str().is_empty())
}

/// The help if it was asked for, else what is wrong with the file.
fn help(mut command: Command, args: &[OsString], error: &FileError) -> clap::Error {
    match command.try_get_matches_from_mut(args) {
        Err(shown) if matches!(shown.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => shown,
        _ => command.error(ErrorKind::ValueValidation, error),
    }
}

/// The program's command with the file's values as defaults.
fn command<P: Parser>(program: Program, file: &File) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env(CONFIG_VARIABLE)
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("A TOML file of settings: the names below in lower case, such as database_url")
        .help_heading(None)
        .global(true);
    with_defaults(P::command().arg(config), program, file)
}

fn with_defaults(command: Command, program: Program, file: &File) -> Command {
    command
        .mut_args(|arg| {
            let arg = match (arg.get_id().as_str(), program) {
                ("telemetry_listen", Program::Worker) => arg.default_value("127.0.0.1:9465"),
                _ => arg,
            };
            let value = file.values.get(arg.get_id().as_str());
            let arg = if let Some(value) = value { arg.default_value(value.clone()) } else { arg };
            let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            if arg.get_env().is_some_and(is_empty) { arg.env(None) } else { arg }
        })
        .mut_subcommands(|sub| with_defaults(sub, program, file))
}

/// The names that a file may hold: every setting there is, and those of `P`.
fn known<P: Parser>() -> BTreeSet<String> {
    fn collect(command: &Command, names: &mut BTreeSet<String>) {
        let settings = command.get_arguments().filter(|arg| arg.get_env().is_some());
        names.extend(settings.map(|arg| arg.get_id().to_string()).filter(|name| name != CONFIG));
        command.get_subcommands().for_each(|sub| collect(sub, names));
    }
    let mut names = BTreeSet::new();
    collect(&Everything::augment_args(Command::new("everything")), &mut names);
    collect(&P::command(), &mut names);
    names
}

/// Adds variable and file to the argument that a parse error names.
fn name_setting(mut error: clap::Error, command: &Command, file: &File, path: Option<&Path>) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(arg) = find(command, shown) else { return error };
    let Some(variable) = arg.get_env() else { return error };
    let mut named = format!("{shown} ({}", variable.display());
    let id = arg.get_id().as_str();
    if let (Some(path), Some(value), Some(ContextValue::String(wrong))) =
        (path, file.values.get(id), error.get(ContextKind::InvalidValue))
        && value.split(',').any(|part| part == wrong)
    {
        named = format!("{named}, {id} in {}", path.display());
    }
    named.push(')');
    error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    error
}

fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|arg| arg.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|sub| find(sub, shown)))
}

/// Every setting of every program.
#[derive(Args)]
struct Everything {
    #[command(flatten)]
    _database: crate::DatabaseArgs,
    #[command(flatten)]
    _secret_key: crate::SecretKeyArgs,
    #[command(flatten)]
    _server: crate::ServerArgs,
    #[command(flatten)]
    _shed: crate::ShedArgs,
    #[command(flatten)]
    _dispatch: crate::DispatchArgs,
    #[command(flatten)]
    _delivery: crate::DeliveryArgs,
    #[command(flatten)]
    _retry: crate::RetryArgs,
    #[command(flatten)]
    _worker: crate::WorkerArgs,
    #[command(flatten)]
    _telemetry: crate::TelemetryArgs,
}
