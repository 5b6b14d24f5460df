//! From a command line to a program's arguments.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, Parser, value_parser};
use postrider_core::{ShownSetting, chain};
use postrider_telemetry::Program;

use crate::bounds;
use crate::file::File;
use crate::shown::shown;

const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "POSTRIDER_CONFIG";

/// The arguments of a program, and the settings file that they came from.
#[derive(Debug)]
pub struct Settings<P> {
    /// The arguments.
    pub args: P,
    /// The path of the settings file; `None` if the program was given none.
    pub file: Option<PathBuf>,
    /// The file's `[[transforms]]`, unchanged, for `postrider_dispatch::Transforms::configure`.
    pub transforms: Option<toml::Value>,
    /// All settings that the program has, with secrets masked.
    pub shown: Vec<ShownSetting>,
}

/// Reads a program's settings from `args` (its own name first), the environment and the settings file.
///
/// Adds `--config PATH` to the arguments of `P` and its subcommands. A file may hold any setting of any Postrider
/// program, so that one file serves them all; settings that `P` does not have are ignored. An empty variable counts as
/// unset.
///
/// # Errors
/// Fails if a setting is invalid, and also for `--help` and `--version`. The program prints the error and exits with its
/// code ([`clap::Error::print`], [`clap::Error::exit_code`]). Messages name the argument, the variable and the file, and
/// contain no secrets.
pub fn parse<P: Parser>(
    program: Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Settings<P>, clap::Error> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let path = config_path(&args);
    let file = match path.as_deref().map(|path| File::read(path, &known::<P>())).transpose() {
        Ok(file) => file.unwrap_or_default(),
        // `--help` must work even if the file is broken.
        Err(error) => return Err(help(command::<P>(program, &File::default()), &args, &error)),
    };
    let mut command = command::<P>(program, &file);
    let mut matches = match command.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(error) => {
            // Clap builds only the subcommand that it parses, and an argument that is not built cannot be printed.
            command.build();
            return Err(name_setting(error, &command, &file, path.as_deref()));
        }
    };
    let shown = shown(&command, &matches, &file);
    let args = P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(Settings { args, file: path, transforms: file.transforms, shown })
}

/// Returns the path of the settings file. It cannot come from clap, which needs the file's values before it parses.
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

/// Returns the help or version if the arguments ask for it, else `error`.
fn help(mut command: Command, args: &[OsString], error: &(dyn Error + 'static)) -> clap::Error {
    match command.try_get_matches_from_mut(args) {
        Err(shown) if matches!(shown.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => shown,
        _ => command.error(ErrorKind::ValueValidation, chain(error)),
    }
}

/// The command line of a program, with the file's values as defaults.
fn command<P: Parser>(program: Program, file: &File) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env(CONFIG_VARIABLE)
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file of settings; its keys are the names below in lower case, such as database_url")
        .help_heading(None)
        .global(true);
    adapted(P::command().arg(config), program, file)
}

/// Adds the bounds to the help of each argument, and sets the defaults of the program and the file.
fn adapted(command: Command, program: Program, file: &File) -> Command {
    command
        .mut_args(|arg| {
            let arg = match (arg.get_id().as_str(), program) {
                ("telemetry_listen", Program::Worker) => arg.default_value("127.0.0.1:9465"),
                // Of `postrider serve`.
                ("migrate", Program::Whole) => arg.default_value("true"),
                _ => arg,
            };
            let arg = match bounds::shown(arg.get_id().as_str()) {
                Some(bounds) => with_bounds(arg, &bounds),
                None => arg,
            };
            let value = file.values.get(arg.get_id().as_str());
            let arg = if let Some(value) = value { arg.default_value(value.clone()) } else { arg };
            let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            if arg.get_env().is_some_and(is_empty) { arg.env(None) } else { arg }
        })
        .mut_subcommands(|sub| adapted(sub, program, file))
}

/// Appends `bounds` to the first paragraph of the argument's help.
fn with_bounds(arg: Arg, bounds: &str) -> Arg {
    let first = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let bounded = format!("{first} ({bounds})");
    let long = arg.get_long_help().map(|long| long.to_string().replacen(&first, &bounded, 1));
    let arg = arg.help(bounded);
    if let Some(long) = long { arg.long_help(long) } else { arg }
}

/// Returns the keys that a file may have: every setting of any Postrider program, and those of `P`.
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

/// Adds the variable and the file to the argument that a parse error names.
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
    _shutdown: crate::ShutdownArgs,
    #[command(flatten)]
    _secret_key: crate::SecretKeyArgs,
    #[command(flatten)]
    _server: crate::ServerArgs,
    #[command(flatten)]
    _sandbox: crate::SandboxArgs,
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
    _client: crate::ClientArgs,
    #[command(flatten)]
    _telemetry: crate::TelemetryArgs,
}
