//! `postrider trigger`: dispatches an event whose data is an example or that of an earlier event.

use std::env;
use std::fs;
use std::io::Write as _;
use std::process::Command;

use postrider_client::{Client, encoded};
use postrider_core::json::layout::pretty;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::body;
use crate::client::output::OutputArgs;
use crate::client::send::{Fields, WaitArgs, dispatch};
use crate::connection::{client, failed};
use crate::status::missing;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider trigger order.created --set /order/total=9.50 --wait")]
pub(crate) struct Args {
    /// Event type, such as order.created
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Take the data of this event, evt_…, instead of the type's example
    #[arg(long, value_name = "EVENT")]
    from: Option<String>,
    /// Set a value in the data; the value is JSON, or else text; may be repeated
    #[arg(long, value_name = "/POINTER=VALUE")]
    set: Vec<String>,
    /// Edit the data before it is sent, with the program in VISUAL or EDITOR
    #[arg(long)]
    edit: bool,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The part of an event type that this command reads, as it is written.
#[derive(Deserialize)]
struct Example {
    example: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Earlier {
    data: Option<Box<RawValue>>,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let mut data = match &args.from {
        Some(event) => of_event(&client, event).await?,
        None => of_type(&client, &args.event_type).await?,
    };
    if !args.set.is_empty() {
        let mut document = body::document(data.get())?;
        args.set.iter().try_for_each(|assignment| body::set(&mut document, assignment))?;
        data = RawValue::from_string(document.to_string())?;
    }
    if args.edit {
        data = edited(&data)?;
    }
    dispatch(&client, args.event_type, data, args.fields, args.wait, args.output).await
}

async fn of_type(client: &Client, name: &str) -> Result<Box<RawValue>, StartError> {
    let path = format!("/v1/event-types/{}", encoded(name));
    let Example { example } = client.get(&path).await.map_err(failed)?;
    example.ok_or_else(|| {
        missing(format!("the event type {name} has no example; take the data of an event with --from, or use `postrider send`"))
    })
}

async fn of_event(client: &Client, id: &str) -> Result<Box<RawValue>, StartError> {
    let Earlier { data } = client.get(&format!("/v1/events/{}", encoded(id))).await.map_err(failed)?;
    data.ok_or_else(|| {
        missing(format!(
            "the data of {id} is not shown: it was erased, has expired, or needs the scope payloads:read"
        ))
    })
}

/// Returns the data as the user's editor leaves it.
fn edited(data: &RawValue) -> Result<Box<RawValue>, StartError> {
    let named =
        ["VISUAL", "EDITOR"].into_iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()));
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    let mut file = tempfile::Builder::new().prefix("postrider-").suffix(".json").tempfile()?;
    writeln!(file, "{}", pretty(data.get()))?;
    // The variable may hold arguments, as in `code --wait`.
    let status =
        Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status()?;
    if !status.success() {
        return Err(format!("the editor ended with {status}; nothing was sent").into());
    }
    let text = fs::read_to_string(file.path())?;
    body::json(text.trim())
}
