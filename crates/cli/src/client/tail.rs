//! `postrider tail`: events, attempts and deliveries as they happen.

use std::time::Duration;

use postrider_client::{ClientError, EventStream, Failure, ServerEvent, encoded};
use postrider_core::chain;
use postrider_program::{StartError, WithStatus};
use postrider_settings::ClientArgs;
use serde_json::Value;
use tokio::time::sleep;

use crate::client::output::{Format, OutputArgs, cell, eprint_line, print_text};
use crate::connection::{client, failed};
use crate::status::REFUSED;

/// The pause before connecting again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a line shows of an item, if it has it.
const SHOWN: [&str; 8] = [
    "/id",
    "/event",
    "/event_id",
    "/subscriber_id",
    "/status",
    "/number",
    "/response/status",
    "/error/message",
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider tail --types 'order.*' --status dead -o jsonl")]
pub(crate) struct Args {
    /// Only events of these types, separated by commas, such as 'order.*'
    #[arg(long, value_name = "TYPES")]
    types: Option<String>,
    /// Only what concerns this subscriber: its id or its uid
    #[arg(long, value_name = "SUBSCRIBER")]
    subscriber_id: Option<String>,
    /// Only attempts and deliveries with this status: pending, succeeded, dead or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// End after this number of lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let path = path(&args);
    let (mut last, mut printed) = (None::<String>, 0);
    let mut connected = false;
    loop {
        let ended = match client.stream(&path, last.as_deref()).await {
            Ok(mut stream) => {
                if connected {
                    eprint_line("connected again");
                }
                connected = true;
                match follow(&mut stream, &args, &mut last, &mut printed).await? {
                    Followed::Enough => return Ok(()),
                    Followed::Refused => {
                        let reason = "the key has expired, was revoked, or lost the scope tail:read";
                        return Err(WithStatus::new(REFUSED, reason.to_owned()).into());
                    }
                    Followed::Broken(error) => error,
                }
            }
            Err(error)
                if !connected
                    || error.failure() == Failure::Refused
                    || error.failure() == Failure::NotFound =>
            {
                return Err(failed(error));
            }
            Err(error) => Some(error),
        };
        let reason =
            ended.map_or_else(|| "the server ended the stream".to_owned(), |error| chain(&error).to_string());
        eprint_line(format_args!("{reason}; connecting again"));
        sleep(PAUSE).await;
    }
}

enum Followed {
    /// The key has lost the right to the stream.
    Refused,
    /// As many lines as were asked for.
    Enough,
    /// The stream has ended, with an error if it broke.
    Broken(Option<ClientError>),
}

async fn follow(
    stream: &mut EventStream,
    args: &Args,
    last: &mut Option<String>,
    printed: &mut u64,
) -> Result<Followed, StartError> {
    loop {
        if args.count.is_some_and(|count| *printed >= count) {
            return Ok(Followed::Enough);
        }
        match stream.next().await {
            Ok(Some(event)) => {
                if !event.id.is_empty() {
                    *last = Some(event.id.clone());
                }
                match (event.name.as_str(), reason(&event).as_deref()) {
                    ("end", Some("key")) => return Ok(Followed::Refused),
                    ("end", _) => return Ok(Followed::Broken(None)),
                    ("left_out", _) => {
                        eprint_line(format_args!("left out: {}", cell(&event.data.into(), usize::MAX)));
                    }
                    _ => {
                        print_text(line(&event, args.output.output))?;
                        *printed += 1;
                    }
                }
            }
            Ok(None) => return Ok(Followed::Broken(None)),
            Err(error) => return Ok(Followed::Broken(Some(error))),
        }
    }
}

/// Returns the reason that an event about the stream itself gives.
fn reason(event: &ServerEvent) -> Option<String> {
    let data: Value = serde_json::from_str(&event.data).ok()?;
    data.get("reason")?.as_str().map(str::to_owned)
}

fn path(args: &Args) -> String {
    let filters = [("types", &args.types), ("subscriber_id", &args.subscriber_id), ("status", &args.status)];
    let given =
        filters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    let query: Vec<String> = given.collect();
    if query.is_empty() { "/v1/tail".to_owned() } else { format!("/v1/tail?{}", query.join("&")) }
}

/// Returns one line about an event of the stream.
fn line(event: &ServerEvent, format: Format) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    match format {
        Format::Json | Format::Jsonl => event.data.replace('\n', " "),
        Format::Id => data.pointer("/id").map_or_else(String::new, |id| cell(id, usize::MAX)),
        Format::Table => {
            let shown = SHOWN.iter().filter_map(|path| data.pointer(path)).filter(|value| !value.is_null());
            let cells = shown.map(|value| cell(value, usize::MAX));
            let name = cell(&event.name.as_str().into(), usize::MAX);
            [name].into_iter().chain(cells).collect::<Vec<_>>().join("  ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_an_item_has() {
        let data = "{\"id\":\"att_1\",\n\"number\":2,\"error\":null,\"response\":{\"status\":503}}";
        let event = ServerEvent { name: "attempt".to_owned(), id: "7".to_owned(), data: data.to_owned() };
        assert_eq!(line(&event, Format::Table), "attempt  att_1  2  503");
        assert_eq!(line(&event, Format::Id), "att_1");
        assert_eq!(line(&event, Format::Jsonl).lines().count(), 1);
    }
}
