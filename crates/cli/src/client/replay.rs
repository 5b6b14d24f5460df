//! `postrider replay`: delivers again what matches a filter.

use std::time::Duration;

use postrider_api::replay::ReplayView;
use postrider_client::Client;
use postrider_core::replay::ReplayStatus;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::client::confirm::confirm;
use crate::client::output::{OutputArgs, Printer};
use crate::client::progress::Progress;
use crate::connection::{client, failed};
use crate::status::late;

/// The pause between looks at a replay.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: postrider replay --mode dead --subscriber-id billing-eu --since 2026-01-01T00:00:00Z --dry-run"
)]
pub(crate) struct Args {
    /// What to deliver again: dead, all or missed
    #[arg(long, value_name = "MODE", default_value = "dead")]
    mode: String,
    /// Only deliveries to this subscriber: its id or its uid
    #[arg(long, value_name = "SUBSCRIBER")]
    subscriber_id: Option<String>,
    /// Only events of this type
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Only deliveries of this event
    #[arg(long, value_name = "EVENT")]
    event_id: Option<String>,
    /// Only deliveries with this status: pending, succeeded, dead or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only deliveries whose last response had this HTTP status, or one of a class such as 5xx
    #[arg(long, value_name = "CODE")]
    response_code: Option<String>,
    /// Only deliveries whose last attempt failed for this reason
    #[arg(long, value_name = "KIND")]
    error_kind: Option<String>,
    /// Only deliveries that are dead for this reason
    #[arg(long, value_name = "REASON")]
    dead_reason: Option<String>,
    /// Only deliveries with at least so many attempts
    #[arg(long, value_name = "N")]
    min_attempts: Option<u32>,
    /// Only deliveries with at most so many attempts
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Only deliveries created from this time on: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only deliveries created before this time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Count what would be delivered again, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Wait until the replay is over and print it; exit with 0 if all of it was put in the queue, 1 if not, 5 on timeout
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long --wait waits, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let request = |dry_run: bool| json!({"filter": filter(&args), "mode": args.mode, "dry_run": dry_run});
    let counts = async || -> Result<Box<RawValue>, StartError> {
        client.post("/v1/replays", &request(true)).await.map_err(failed)
    };
    let answer = if args.dry_run {
        counts().await?
    } else {
        if !args.yes {
            let counts: Estimate = serde_json::from_str(counts().await?.get())?;
            confirm(
                &format!(
                    "This delivers {} events to {} subscribers again.",
                    counts.total, counts.subscribers
                ),
                false,
            )?;
        }
        client.post("/v1/replays", &request(false)).await.map_err(failed)?
    };
    if args.wait {
        return wait(&client, answer, Duration::from_secs(args.timeout), args.output).await;
    }
    Ok(Printer::new(args.output, &[]).item(answer.get())?)
}

/// Waits until a replay is over, prints it, and fails unless it is done without failures.
async fn wait(
    client: &Client,
    mut answer: Box<RawValue>,
    limit: Duration,
    output: OutputArgs,
) -> Result<(), StartError> {
    let deadline = Instant::now() + limit;
    let progress = Progress::new("deliveries put in the queue");
    let replay = loop {
        let replay: ReplayView = serde_json::from_str(answer.get())?;
        progress.set(replay.done + replay.failed, replay.total);
        if matches!(replay.status, ReplayStatus::Done | ReplayStatus::Cancelled) {
            break replay;
        }
        if Instant::now() >= deadline {
            return Err(late(format!(
                "the replay is not over after {limit:?}; see `postrider replays get {}`",
                replay.id
            )));
        }
        sleep(PAUSE).await;
        answer = client.get(&format!("/v1/replays/{}", replay.id)).await.map_err(failed)?;
    };
    drop(progress);
    Printer::new(output, &[]).item(answer.get())?;
    match (replay.status, replay.failed) {
        (ReplayStatus::Cancelled, _) => Err("the replay was cancelled".into()),
        (_, 0) => Ok(()),
        (_, failed) => {
            Err(format!("{failed} of {} deliveries were not put in the queue", replay.total).into())
        }
    }
}

/// The part of a dry run's answer that the question names.
#[derive(Deserialize)]
struct Estimate {
    total: u64,
    subscribers: u64,
}

fn filter(args: &Args) -> Map<String, Value> {
    let text = |value: &Option<String>| value.clone().map(Value::from);
    // Times may be numbers.
    let time = |value: &Option<String>| {
        value.as_ref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
    };
    let fields = [
        ("subscriber_id", text(&args.subscriber_id)),
        ("event", text(&args.event)),
        ("event_id", text(&args.event_id)),
        ("status", text(&args.status)),
        ("response_code", text(&args.response_code)),
        ("error_kind", text(&args.error_kind)),
        ("dead_reason", text(&args.dead_reason)),
        ("min_attempts", args.min_attempts.map(Value::from)),
        ("max_attempts", args.max_attempts.map(Value::from)),
        ("since", time(&args.since)),
        ("until", time(&args.until)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
