//! `postrider diff`: what differs between two attempts.

use postrider_api::delivery::DeliveryView;
use postrider_client::{Client, encoded};
use postrider_core::json::layout::pretty;
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde::Deserialize;
use serde_json::value::RawValue;
use similar::TextDiff;

use crate::client::lists::{Span, all, each_page};
use crate::client::output::{Column, Format, OutputArgs, Printer, print_text};
use crate::connection::client;
use crate::status::missing;

/// How many deliveries are searched for an attempt whose delivery is not named.
const SEARCHED: u64 = 250;

const COLUMNS: &[Column] = &[Column { name: "id", path: "/id" }];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: postrider diff dlv_01h455vb4pex5vsknk084sn02q/1 dlv_01h455vb4pex5vsknk084sn02q/2"
)]
pub(crate) struct Args {
    /// An attempt: its id, att_…, or its delivery and its number, dlv_…/2
    from: String,
    /// The attempt to compare it with
    to: String,
    /// Delivery of attempts that are given by their ids; otherwise the latest deliveries are searched
    #[arg(long, value_name = "DELIVERY")]
    delivery: Option<String>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    number: u32,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let from = attempt(&client, &args.from, args.delivery.as_deref()).await?;
    let to = attempt(&client, &args.to, args.delivery.as_deref()).await?;
    if args.output.output != Format::Table {
        let mut printer = Printer::new(args.output, COLUMNS);
        printer.page(&[from, to])?;
        return Ok(printer.end()?);
    }
    let [old, new] = [&from, &to].map(|attempt| pretty(attempt.get()));
    let diff = TextDiff::from_lines(&old, &new);
    let text = diff.unified_diff().header(&args.from, &args.to).to_string();
    Ok(print_text(text.trim_end())?)
}

async fn attempt(client: &Client, name: &str, delivery: Option<&str>) -> Result<Box<RawValue>, StartError> {
    if let Some((delivery, number)) = name.split_once('/') {
        let found = of_delivery(client, delivery, |attempt| attempt.number.to_string() == number).await?;
        return found.ok_or_else(|| missing(format!("{delivery} has no attempt {number}")));
    }
    let is_it = |attempt: &Named| attempt.id == name;
    if let Some(delivery) = delivery {
        let found = of_delivery(client, delivery, is_it).await?;
        return found.ok_or_else(|| missing(format!("{delivery} has no attempt {name}")));
    }
    let mut latest = Vec::new();
    each_page(client, "/v1/deliveries", Span::First(SEARCHED), |page| {
        latest.extend(page.iter().filter_map(|item| serde_json::from_str::<DeliveryView>(item.get()).ok()));
        Ok(())
    })
    .await?;
    for delivery in latest.iter().filter(|delivery| delivery.attempts > 0) {
        if let Some(found) = of_delivery(client, &delivery.id.to_string(), is_it).await? {
            return Ok(found);
        }
    }
    Err(missing(format!(
        "no attempt {name} among the latest {SEARCHED} deliveries; name its delivery with --delivery"
    )))
}

async fn of_delivery(
    client: &Client,
    delivery: &str,
    is_it: impl Fn(&Named) -> bool,
) -> Result<Option<Box<RawValue>>, StartError> {
    let attempts = all(client, &format!("/v1/deliveries/{}/attempts", encoded(delivery))).await?;
    let fits = |attempt: &RawValue| serde_json::from_str(attempt.get()).is_ok_and(|named| is_it(&named));
    Ok(attempts.into_iter().find(|attempt| fits(attempt)))
}
