//! Completion of command lines: commands and flags from this program, ids and names from the server that it calls.
//!
//! A script of `postrider completions` runs this program with [`VARIABLE`] set and the words of the line after `--`. The
//! answer comes within a second and without a word on standard error, since a person is typing.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use postrider_settings::ClientArgs;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::output::cell;
use crate::connection::client;
use crate::profiles::Profiles;

/// The variable that makes this program complete a line; its value is the shell.
pub(crate) const VARIABLE: &str = "_POSTRIDER_COMPLETE";

/// How long the server may take, so that the whole answer comes within a second.
const DEADLINE: Duration = Duration::from_millis(800);
/// How many items are asked for, the newest first: the most that the API returns at once.
const NEWEST: u64 = 250;
/// The most characters of what is said about a value.
const MAX_HELP: usize = 60;

/// What completes the values of a name.
#[derive(Debug)]
struct Source {
    /// The name of the value in `--help`.
    name: &'static str,
    /// The list of the API.
    path: &'static str,
    /// Where the values are in an item: JSON Pointers. Without a first letter only the first one that an item has is offered.
    values: &'static [&'static str],
    /// Where it is said what the value is.
    about: &'static str,
}

const fn source(
    name: &'static str,
    path: &'static str,
    values: &'static [&'static str],
    about: &'static str,
) -> Source {
    Source { name, path, values, about }
}

const SOURCES: &[Source] = &[
    source("EVENT", "/v1/events", &["/id"], "/event"),
    source("DELIVERY", "/v1/deliveries", &["/id"], "/event"),
    source("REPLAY", "/v1/replays", &["/id"], "/status"),
    source("SUBSCRIBER", "/v1/subscribers", &["/uid", "/id"], "/url"),
    source("UID", "/v1/subscribers", &["/uid"], "/url"),
    source("TYPE", "/v1/event-types", &["/name"], "/description"),
    source("TYPES", "/v1/event-types", &["/name"], "/description"),
    source("KEY", "/v1/keys", &["/id"], "/name"),
    source("TENANT", "/v1/tenants", &["/id"], "/name"),
];

/// Completes a line if a script asks for it, and returns whether one does.
pub(crate) fn answer(program: fn() -> Command) -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    let folder = std::env::current_dir().ok();
    let line = CompleteEnv::with_factory(|| with_values(program())).var(VARIABLE);
    // A shell that it does not know gets nothing; there is no one to complain to.
    let _ = line.try_complete(std::env::args_os(), folder.as_deref());
    true
}

/// Returns a command whose arguments know their values, with all commands below it.
fn with_values(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str);
        // Flags of that name take the text of a key, or one that the caller chooses.
        let is_other_key = name == Some("KEY") && !arg.is_positional();
        if name == Some("PROFILE") {
            return arg.add(ArgValueCompleter::new(profiles));
        }
        match SOURCES.iter().find(|source| Some(source.name) == name) {
            Some(source) if !is_other_key => {
                arg.add(ArgValueCompleter::new(|prefix: &OsStr| from_server(source, prefix)))
            }
            _ => arg,
        }
    });
    command.mut_subcommands(with_values)
}

fn profiles(prefix: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(prefix), Ok(profiles)) = (prefix.to_str(), Profiles::read()) else { return Vec::new() };
    let fitting = profiles.all().iter().filter(|(name, _)| name.starts_with(prefix));
    fitting.map(|(name, profile)| candidate(name, &profile.url)).collect()
}

/// Returns the values that begin with `prefix`, or none if the server does not answer or refuses.
fn from_server(source: &Source, prefix: &OsStr) -> Vec<CompletionCandidate> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let items = api(words, source.name != "TENANT").and_then(|api| newest(&api, source.path));
    match (prefix.to_str(), items) {
        (Some(prefix), Some(items)) => values(source, prefix, &items),
        _ => Vec::new(),
    }
}

/// Returns the API that the line names so far. Other arguments may be missing from the line, or be wrong.
fn api(words: impl Iterator<Item = OsString>, with_tenant: bool) -> Option<ClientArgs> {
    let flags = Command::new("postrider").no_binary_name(true).disable_help_flag(true);
    let flags = ClientArgs::augment_args(flags);
    let mut given = Vec::new();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.to_str().and_then(|word| word.strip_prefix("--")) else { continue };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if !flags.get_arguments().any(|arg| arg.get_long() == Some(name)) {
            continue;
        }
        let value = value.map(OsString::from).or_else(|| words.next()).filter(|value| !value.is_empty());
        given.extend(value.map(|value| [format!("--{name}").into(), value]).into_iter().flatten());
    }
    let mut matches = flags.try_get_matches_from(given).ok()?;
    let mut api = ClientArgs::from_arg_matches_mut(&mut matches).ok()?;
    if !with_tenant {
        api.tenant = None;
    }
    Some(api)
}

/// Reads the newest items of a list.
fn newest(api: &ClientArgs, path: &str) -> Option<Vec<Value>> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Value>,
    }
    let client = client(api).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let path = format!("{path}?limit={NEWEST}");
    let page = runtime.block_on(async { timeout(DEADLINE, client.get::<Page>(&path)).await.ok()?.ok() });
    // Does not wait for a lookup of the server's name.
    runtime.shutdown_background();
    page.map(|page| page.data)
}

fn values(source: &Source, prefix: &str, items: &[Value]) -> Vec<CompletionCandidate> {
    let of_item = |item: &Value| -> Vec<CompletionCandidate> {
        let about = item.pointer(source.about).map_or_else(String::new, |about| cell(about, MAX_HELP));
        let texts = source.values.iter().filter_map(|path| item.pointer(path)?.as_str());
        let fitting = texts.filter(|text| text.starts_with(prefix) && is_a_word(text));
        let most = if prefix.is_empty() { 1 } else { usize::MAX };
        fitting.take(most).map(|text| candidate(text, &about)).collect()
    };
    items.iter().flat_map(of_item).collect()
}

/// Whether a text is one word for every shell. A server must not put more than words into a line.
fn is_a_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._-/@+:".contains(c))
}

fn candidate(value: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(about.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;

    fn offered(name: &str, prefix: &str, items: &[Value]) -> Vec<String> {
        let source = SOURCES.iter().find(|source| source.name == name).unwrap();
        let values = values(source, prefix, items);
        values.iter().map(|value| value.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_subscriber_is_offered_by_its_uid_unless_an_id_is_begun() {
        let items =
            [json!({"id": "sub_1", "uid": "shop"}), json!({"id": "sub_2", "uid": null}), json!({"uid": 1})];
        assert_eq!(offered("SUBSCRIBER", "", &items), ["shop", "sub_2"]);
        assert_eq!(offered("SUBSCRIBER", "s", &items), ["shop", "sub_1", "sub_2"]);
        assert_eq!(offered("SUBSCRIBER", "sub_1", &items), ["sub_1"]);
    }

    #[test]
    fn a_server_puts_only_words_into_a_line() {
        let items =
            ["a b", "a;b", "$(a)", "a\u{1b}[0m", "`a`", "a\nb", "a'b", "a.b"].map(|id| json!({"id": id}));
        assert_eq!(offered("EVENT", "", &items), ["a.b"]);
    }

    #[test]
    fn the_line_names_the_api_whatever_else_it_has() {
        let api = |words: &[&str], with_tenant| api(words.iter().map(OsString::from), with_tenant).unwrap();
        let given = api(
            &["postrider", "--wrong", "events", "get", "--url", "http://a", "--profile=b", "--tenant", ""],
            true,
        );
        assert_eq!((given.url.as_deref(), given.profile.as_deref()), (Some("http://a"), Some("b")));
        assert_eq!(api(&["--tenant", "ac"], false).tenant, None);
    }

    #[test]
    fn each_source_completes_an_argument() {
        fn names(command: &Command, found: &mut Vec<String>) {
            for arg in command.get_arguments() {
                found.extend(arg.get_value_names().into_iter().flatten().map(ToString::to_string));
            }
            command.get_subcommands().for_each(|command| names(command, found));
        }
        let mut found = Vec::new();
        names(&crate::Args::command(), &mut found);
        for name in SOURCES.iter().map(|source| source.name).chain(["PROFILE"]) {
            assert!(found.iter().any(|found| found == name), "{name}");
        }
    }
}
