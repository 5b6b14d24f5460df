//! `postrider top`: a deployment at a glance, again and again.

mod lines;
mod look;
#[cfg(feature = "top")]
mod screen;

use std::time::Duration;

use postrider_client::Client;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use tokio::time::sleep;

use self::look::Look;
use crate::client::output::{Format, OutputArgs, print_text};
use crate::connection::{client, failed};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider top --interval 5")]
pub(crate) struct Args {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after this number of looks; otherwise one where standard output is not a terminal
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let stop = postrider_program::stop_signal()?;
    #[cfg(feature = "top")]
    if args.output.output == Format::Table && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return live(&client, &args, &stop).await;
    }
    tokio::select! {
        ended = print(&client, &args) => ended,
        () = stop.cancelled() => Ok(()),
    }
}

/// Prints one look after another.
async fn print(client: &Client, args: &Args) -> Result<(), StartError> {
    let mut before: Option<Look> = None;
    let mut left = args.count.unwrap_or(1);
    loop {
        let look = Look::take(client).await.map_err(failed)?;
        let rates = before.as_ref().map(|before| look.rates(before));
        print_text(match args.output.output {
            Format::Table => lines::text(&look, rates),
            Format::Json | Format::Jsonl => look.item(rates).to_string(),
            Format::Id => look.worst.iter().map(|worst| worst.id.as_str()).collect::<Vec<_>>().join("\n"),
        })?;
        before = Some(look);
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(());
        }
        sleep(Duration::from_secs(args.interval)).await;
    }
}

/// Shows one look after another on the screen, which it leaves as it was.
#[cfg(feature = "top")]
async fn live(client: &Client, args: &Args, stop: &postrider_program::Stop) -> Result<(), StartError> {
    use self::screen::{Pressed, Screen, Shown};
    use postrider_client::Failure;
    use postrider_core::chain;
    use tokio::time::Instant;

    let mut shown = Shown::default();
    // Before the screen, so that a wrong key or URL is said where it stays.
    shown.add(Look::take(client).await.map_err(failed)?);
    let mut screen = Screen::open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        screen.show(&shown)?;
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(());
        }
        let next = Instant::now() + Duration::from_secs(args.interval);
        let looked = async {
            tokio::time::sleep_until(next).await;
            Look::take(client).await
        };
        tokio::pin!(looked);
        let look = loop {
            tokio::select! {
                look = &mut looked => break look,
                () = stop.cancelled() => return Ok(()),
                pressed = screen.pressed() => match pressed {
                    Pressed::End => return Ok(()),
                    Pressed::Resized => screen.show(&shown)?,
                },
            }
        };
        match look {
            Ok(look) => shown.add(look),
            // Such as a server that restarts. What was known stays on the screen.
            Err(error) if error.failure() != Failure::Refused => {
                shown.trouble = Some(format!("{}; trying again", chain(&error)));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
