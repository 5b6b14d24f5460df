//! `postrider events`, `deliveries` and the like: a command for each resource of the API, with a subcommand for each call.

mod call;
mod events;
mod queue;
mod sandboxes;
mod subscribers;
mod tenants;

use std::fmt;
use std::io::{self, IsTerminal as _};

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches, Subcommand, value_parser};
use postrider_client::{Client, encoded};
use postrider_core::json::Document;
use postrider_program::StartError;
use postrider_settings::ClientArgs;

use self::call::{Call, Resource, Shows, Take};
use crate::client::body;
use crate::client::confirm::confirm;
use crate::client::lists::{Span, each_page};
use crate::client::output::{Column, OutputArgs, Printer, eprint_line};
use crate::client::progress::Progress;
use crate::connection::{client, failed};

/// How many items a list prints unless told otherwise.
const LIMIT: &str = "50";

fn resources() -> impl Iterator<Item = &'static Resource> {
    let all = [
        events::RESOURCES,
        subscribers::RESOURCES,
        tenants::RESOURCES,
        queue::RESOURCES,
        sandboxes::RESOURCES,
    ];
    all.into_iter().flatten()
}

/// A call of the API, with its arguments.
pub(crate) struct ResourceCommand {
    call: &'static Call,
    given: ArgMatches,
    api: ClientArgs,
    output: OutputArgs,
}

// Without the arguments, which may hold secrets.
impl fmt::Debug for ResourceCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceCommand").field("call", &self.call.path).finish_non_exhaustive()
    }
}

impl Subcommand for ResourceCommand {
    fn augment_subcommands(command: Command) -> Command {
        resources().fold(command, |command, resource| command.subcommand(command_of(resource)))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        resources().any(|resource| resource.name == name)
    }
}

impl FromArgMatches for ResourceCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, mut of_resource) = matches.remove_subcommand().ok_or_else(missing)?;
        let resource = resources().find(|resource| resource.name == name).ok_or_else(missing)?;
        let (name, mut given) = of_resource.remove_subcommand().ok_or_else(missing)?;
        let call = resource.calls.iter().find(|call| call.name == name).ok_or_else(missing)?;
        let api = ClientArgs::from_arg_matches_mut(&mut given)?;
        let output = OutputArgs::from_arg_matches_mut(&mut given)?;
        Ok(Self { call, given, api, output })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ResourceCommand {
    /// Makes the call, and prints its answer.
    pub(crate) async fn run(self) -> Result<(), StartError> {
        let client = client(&self.api)?;
        if let Shows::List(columns) = self.call.shows {
            return self.list(&client, columns).await;
        }
        if let Some(question) = self.call.takes.iter().find_map(Take::question) {
            confirm(question, self.given.get_flag("yes"))?;
        }
        let answer =
            client.call(self.call.method.clone(), &self.path(), self.body()?).await.map_err(failed)?;
        let columns = match self.call.shows {
            Shows::Of(columns) => columns,
            Shows::List(_) | Shows::Item | Shows::Text => &[],
        };
        let mut printer = Printer::new(self.output, columns);
        match (self.call.shows, std::str::from_utf8(&answer.body)) {
            _ if answer.body.is_empty() => {
                eprint_line("done");
                Ok(())
            }
            (Shows::Text, _) | (_, Err(_)) => Ok(printer.text(&answer.body)?),
            (_, Ok(json)) => Ok(printer.item(json)?),
        }
    }

    async fn list(&self, client: &Client, columns: &'static [Column]) -> Result<(), StartError> {
        let mut printer = Printer::new(self.output, columns);
        let limit = self.given.get_one("limit").copied().unwrap_or(u64::MAX);
        let span = if self.given.get_flag("all") { Span::All } else { Span::First(limit) };
        // On a terminal the items themselves show how far the list is.
        let progress = (!io::stdout().is_terminal()).then(|| Progress::counting("items read"));
        let more = each_page(client, &self.path(), span, |page| {
            if let Some(progress) = &progress {
                progress.add(page.len());
            }
            Ok(printer.page(page)?)
        })
        .await?;
        drop(progress);
        printer.end()?;
        if more {
            eprint_line(format_args!("these are the first {limit}; add --limit N or --all for more"));
        }
        Ok(())
    }

    /// Returns the path with its id and its query.
    fn path(&self) -> String {
        let text = |name: &str| self.given.get_one::<String>(name).map(|text| encoded(text));
        let id = if self.call.path.contains("{id}") { text("id") } else { None };
        let mut path = self.call.path.replace("{id}", &id.unwrap_or_default());
        let filters = self.call.takes.iter().filter_map(|take| match take {
            Take::Filter(name, ..) => Some(format!("{}={}", name.replace('-', "_"), text(name)?)),
            _ => None,
        });
        for (number, filter) in filters.enumerate() {
            path.push(if number == 0 { '?' } else { '&' });
            path.push_str(&filter);
        }
        path
    }

    /// Returns the body: what `-d` gives, changed by the other arguments. Empty if the call takes none.
    fn body(&self) -> Result<Bytes, StartError> {
        let takes_body = self.call.takes.iter().any(Take::is_in_body);
        if !takes_body {
            return Ok(Bytes::new());
        }
        let text = |name: &str| self.given.try_get_one::<String>(name).ok().flatten();
        let mut document = match text("body") {
            Some(given) => body::document(body::json(given)?.get())?,
            None => Document::default(),
        };
        for take in self.call.takes {
            take.add_to(&self.given, &mut document)?;
        }
        for assignment in self.given.try_get_many::<String>("set").ok().flatten().into_iter().flatten() {
            body::set(&mut document, assignment)?;
        }
        Ok(document.to_string().into())
    }
}

fn command_of(resource: &'static Resource) -> Command {
    let command = Command::new(resource.name).about(resource.about).subcommand_required(true);
    let command = command.arg_required_else_help(true);
    resource.calls.iter().fold(command, |command, call| command.subcommand(call_command(call)))
}

fn call_command(call: &'static Call) -> Command {
    let command = Command::new(call.name).after_help(format!("Example: {}", call.example));
    let command =
        call.takes.iter().fold(command, |command, take| take.args().into_iter().fold(command, Command::arg));
    let command = if matches!(call.shows, Shows::List(_)) { command.args(paging()) } else { command };
    // Last, since each group of arguments sets its own.
    OutputArgs::augment_args(ClientArgs::augment_args(command)).about(call.about).long_about(None::<&str>)
}

fn paging() -> [Arg; 2] {
    let limit = Arg::new("limit").long("limit").value_name("N").default_value(LIMIT);
    let all = Arg::new("all").long("all").action(ArgAction::SetTrue).conflicts_with("limit");
    [
        limit.value_parser(value_parser!(u64).range(1..)).help("Most items to print"),
        all.help("Print all items, however many there are"),
    ]
}
