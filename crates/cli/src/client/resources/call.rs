//! What the tables of calls consist of.

use clap::{Arg, ArgAction, ArgMatches};
use http::Method;
use postrider_core::json::{Document, Pointer};
use postrider_program::StartError;
use serde_json::value::to_raw_value;

use crate::client::output::Column;

pub(super) const GET: Method = Method::GET;
pub(super) const POST: Method = Method::POST;
pub(super) const PUT: Method = Method::PUT;
pub(super) const PATCH: Method = Method::PATCH;
pub(super) const DELETE: Method = Method::DELETE;

/// Returns a column of a table.
pub(super) const fn column(name: &'static str, path: &'static str) -> Column {
    Column { name, path }
}

/// A resource of the API, which is a command.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) calls: &'static [Call],
}

/// A call of the API, which is a subcommand.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) example: &'static str,
    pub(super) method: Method,
    /// The path, in which `{id}` stands for the id.
    pub(super) path: &'static str,
    pub(super) takes: &'static [Take],
    pub(super) shows: Shows,
}

/// What a call answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shows {
    /// A list, page by page.
    List(&'static [Column]),
    /// An item whose id is in the first of these columns.
    Of(&'static [Column]),
    /// An item, or nothing.
    Item,
    /// Something that is printed as it is.
    Text,
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Take {
    /// What replaces `{id}` in the path: its name and its help.
    Id(&'static str, &'static str),
    /// A parameter of the query: its flag, the name of its value and its help.
    Filter(&'static str, &'static str, &'static str),
    /// A text in the body, by position: the id of the argument, the field, the name of the value and the help.
    Field(&'static str, &'static str, &'static str, &'static str),
    /// A list of texts in the body, by position, like [`Take::Field`].
    Fields(&'static str, &'static str, &'static str, &'static str),
    /// A text, a number or a list in the body: its flag, the name of its value and its help. The field has the flag's name.
    Value(&'static str, &'static str, &'static str),
    /// What becomes `true` in the body: its flag and its help.
    Switch(&'static str, &'static str),
    /// The body: `-d` and `--set`.
    Body,
    /// What is asked before the call is made, unless `--yes` is given.
    Confirm(&'static str),
}

impl Take {
    /// Returns the arguments.
    pub(super) fn args(&self) -> Vec<Arg> {
        let positional = |id, name, help: &'static str| Arg::new(id).value_name(name).help(help);
        let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
        match *self {
            Self::Id(name, help) => vec![positional("id", name, help).required(true)],
            Self::Field(id, _, name, help) => vec![positional(id, name, help)],
            Self::Fields(id, _, name, help) => vec![positional(id, name, help).num_args(0..)],
            Self::Filter(name, value, help) | Self::Value(name, value, help) => {
                vec![flag(name, help).value_name(value)]
            }
            Self::Switch(name, help) => vec![flag(name, help).action(ArgAction::SetTrue)],
            Self::Body => {
                let body = Arg::new("body").short('d').long("data").value_name("JSON");
                let body = body.help("Body of the request: JSON, @file, or - for standard input");
                let set =
                    flag("set", "Set a field of the body; the value is JSON, or else text; may be repeated")
                        .action(ArgAction::Append);
                vec![body, set.value_name("/POINTER=VALUE")]
            }
            Self::Confirm(_) => {
                vec![flag("yes", "Do not ask").short('y').action(ArgAction::SetTrue)]
            }
        }
    }

    /// Returns what is asked before the call.
    pub(super) fn question(&self) -> Option<&'static str> {
        if let Self::Confirm(question) = *self { Some(question) } else { None }
    }

    /// Whether the argument is in the body.
    pub(super) fn is_in_body(&self) -> bool {
        match self {
            Self::Field(..) | Self::Fields(..) | Self::Value(..) | Self::Switch(..) | Self::Body => true,
            Self::Id(..) | Self::Filter(..) | Self::Confirm(_) => false,
        }
    }

    /// Adds the argument to the body, if it was given.
    pub(super) fn add_to(&self, given: &ArgMatches, body: &mut Document) -> Result<(), StartError> {
        let (field, value) = match *self {
            Self::Field(id, field, ..) => (field, given.get_one::<String>(id).map(to_raw_value)),
            Self::Fields(id, field, ..) => {
                let texts = given.get_many::<String>(id).map(Iterator::collect::<Vec<_>>);
                (field, texts.map(|texts| to_raw_value(&texts)))
            }
            Self::Value(name, ..) => {
                let text = given.get_one::<String>(name);
                (name, text.map(|text| serde_json::from_str(text).or_else(|_| to_raw_value(text))))
            }
            Self::Switch(name, _) => (name, given.get_flag(name).then(|| to_raw_value(&true))),
            Self::Id(..) | Self::Filter(..) | Self::Body | Self::Confirm(_) => return Ok(()),
        };
        if let Some(value) = value {
            let place: Pointer = format!("/{}", field.replace('-', "_")).parse()?;
            body.put(&place, &value?)?;
        }
        Ok(())
    }
}
