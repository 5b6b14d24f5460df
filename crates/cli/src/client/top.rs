//! `postrider top`: a deployment at a glance, again and again.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use postrider_api::stats::{QueueView, StatsView};
use postrider_client::Client;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

use crate::client::lists::{Span, each_page};
use crate::client::output::{Format, OutputArgs, cell, print_text};
use crate::connection::{client, failed};

/// How many subscribers are looked at, the newest first.
const SUBSCRIBERS: u64 = 1000;
/// How many failing subscribers are shown.
const WORST: usize = 10;

/// Control sequences of terminals (ECMA-48): the alternate screen, on and off, and the beginning of an empty screen.
const SCREEN: &str = "\u{1b}[?1049h";
const NO_SCREEN: &str = "\u{1b}[?1049l";
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider top --interval 5")]
pub(crate) struct Args {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after this number of looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is known at one moment.
struct Look {
    at: Instant,
    stats: StatsView,
    worst: Vec<Value>,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let is_screen = args.output.output == Format::Table && io::stdout().is_terminal();
    let write = |text: &str| -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    };
    if is_screen {
        write(SCREEN)?;
    }
    let showing = show(&client, &args, is_screen);
    let ended = tokio::select! {
        ended = showing => ended,
        _ = ctrl_c() => Ok(()),
    };
    if is_screen {
        write(NO_SCREEN)?;
    }
    ended
}

async fn show(client: &Client, args: &Args, is_screen: bool) -> Result<(), StartError> {
    let mut before = None;
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let look = look(client).await?;
        let text = match args.output.output {
            Format::Table => screen(&look, before.as_ref()),
            Format::Json | Format::Jsonl => item(&look, before.as_ref()).to_string(),
            Format::Id => {
                look.worst.iter().map(|worst| cell(&worst["id"], usize::MAX)).collect::<Vec<_>>().join("\n")
            }
        };
        print_text(if is_screen { format!("{CLEAR}{text}") } else { text })?;
        before = Some(look);
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(());
        }
        sleep(Duration::from_secs(args.interval)).await;
    }
}

async fn look(client: &Client) -> Result<Look, StartError> {
    let stats = client.get("/v1/stats").await.map_err(failed)?;
    let mut worst = Vec::new();
    each_page(client, "/v1/subscribers", Span::First(SUBSCRIBERS), |page| {
        let items = page.iter().filter_map(|item| serde_json::from_str::<Value>(item.get()).ok());
        worst.extend(items.filter(|item| failures(item) > 0));
        Ok(())
    })
    .await?;
    worst.sort_by_key(|item| std::cmp::Reverse(failures(item)));
    worst.truncate(WORST);
    Ok(Look { at: Instant::now(), stats, worst })
}

fn failures(subscriber: &Value) -> u64 {
    subscriber.pointer("/breaker/failures").and_then(Value::as_u64).unwrap_or_default()
}

/// Returns how many deliveries were made and ended per second since the look before.
fn rates(look: &Look, before: Option<&Look>) -> Option<[f64; 3]> {
    let before = before?;
    let seconds = look.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |now: u64, then: u64| {
        let difference = u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
        f64::from(difference) / seconds
    };
    let (now, then) = (&look.stats.deliveries, &before.stats.deliveries);
    Some([rate(now.total, then.total), rate(now.succeeded, then.succeeded), rate(now.dead, then.dead)])
}

fn item(look: &Look, before: Option<&Look>) -> Value {
    let [created, succeeded, dead] = rates(look, before).map_or([None; 3], |rates| rates.map(Some));
    json!({
        "stats": look.stats,
        "per_second": {"created": created, "succeeded": succeeded, "dead": dead},
        "failing": look.worst.iter().map(|worst| &worst["id"]).collect::<Vec<_>>(),
    })
}

/// Returns the lines of the screen.
fn screen(look: &Look, before: Option<&Look>) -> String {
    let mut text = String::new();
    let deliveries = &look.stats.deliveries;
    let rate = |place: usize| {
        rates(look, before).map_or_else(|| "-".to_owned(), |rates| format!("{:.1}/s", rates[place]))
    };
    let latency = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value} ms"));
    let subscribers = &look.stats.subscribers;
    let lines = [
        format!("deliveries   created {}  succeeded {}  dead {}", rate(0), rate(1), rate(2)),
        format!(
            "in all       {} pending  {} succeeded  {} dead  {} cancelled",
            deliveries.pending, deliveries.succeeded, deliveries.dead, deliveries.cancelled
        ),
        format!(
            "latency      p50 {}  p95 {}  p99 {}",
            latency(look.stats.latency_ms.p50),
            latency(look.stats.latency_ms.p95),
            latency(look.stats.latency_ms.p99)
        ),
        format!("subscribers  {} active of {}", subscribers.active, subscribers.total),
    ];
    let queue = look.stats.queue.as_ref().map(|QueueView { ready, scheduled, held, running, oldest_ready_seconds }| {
        format!("queue        {ready} ready  {scheduled} scheduled  {held} held  {running} running  oldest {oldest_ready_seconds:.1} s")
    });
    for line in lines.into_iter().chain(queue) {
        let _ = writeln!(text, "{line}");
    }
    if look.worst.is_empty() {
        text.push_str("\nno subscriber is failing");
    } else {
        text.push_str("\nFAILURES  BREAKER    SUBSCRIBER");
        for worst in &look.worst {
            let [state, id, url] = ["/breaker/state", "/id", "/url"]
                .map(|path| worst.pointer(path).map_or_else(String::new, |value| cell(value, 80)));
            let _ = write!(text, "\n{:<9} {state:<10} {id}  {url}", failures(worst));
        }
    }
    text
}
