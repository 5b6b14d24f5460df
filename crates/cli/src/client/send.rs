//! `postrider send`: dispatches an event.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_api::event::{DispatchedView, EventRequest};
use postrider_client::Client;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde_json::value::RawValue;

use crate::client::body;
use crate::client::deliveries;
use crate::client::output::{OutputArgs, Printer};
use crate::connection::{client, failed};
use crate::status::usage;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider send order.created -d '{\"order\":1}' --wait")]
pub(crate) struct Args {
    /// Event type, such as order.created
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Data of the event: JSON, @file, or - for standard input; otherwise an empty object
    #[arg(short = 'd', long = "data", id = "event_data", value_name = "JSON")]
    event_data: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What an event has beside its type and its data.
#[derive(Debug, clap::Args)]
pub(crate) struct Fields {
    /// Idempotency key: requests with the same one dispatch the event once
    #[arg(long, id = "event_key", value_name = "KEY")]
    id: Option<String>,
    /// Agent that emits the event
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Channel of the event; may be repeated
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// Text to note with the event; may be repeated
    #[arg(long, value_name = "NAME=TEXT")]
    metadata: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Wait for the deliveries to end and print them; exit with 0 if all succeeded, 1 if not, 5 on timeout
    #[arg(long)]
    wait: bool,
    /// How long --wait waits, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let data = body::json(args.event_data.as_deref().unwrap_or("{}"))?;
    let client = client(&args.api)?;
    dispatch(&client, args.event_type, data, args.fields, args.wait, args.output).await
}

/// Dispatches an event, and prints its answer or, if asked for, its deliveries.
pub(crate) async fn dispatch(
    client: &Client,
    event_type: String,
    data: Box<RawValue>,
    fields: Fields,
    wait: WaitArgs,
    output: OutputArgs,
) -> Result<(), StartError> {
    let metadata = fields.metadata.iter().map(|text| pair(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let event = EventRequest {
        event_type: Some(event_type),
        data: Some(data),
        agent_id: fields.agent,
        id: fields.id,
        channels: Some(fields.channel).filter(|channels| !channels.is_empty()),
        metadata: Some(metadata).filter(|metadata| !metadata.is_empty()),
    };
    let answer: Box<RawValue> = client.post("/v1/events", &event).await.map_err(failed)?;
    if !wait.wait {
        return Ok(Printer::new(output, &[]).item(answer.get())?);
    }
    let dispatched: DispatchedView = serde_json::from_str(answer.get())?;
    let limit = Duration::from_secs(wait.timeout);
    deliveries::wait(client, &dispatched.id.to_string(), limit, output).await
}

fn pair(text: &str) -> Result<(String, String), StartError> {
    let pair = text.split_once('=').ok_or_else(|| usage(format!("--metadata {text}: expected NAME=TEXT")))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}
