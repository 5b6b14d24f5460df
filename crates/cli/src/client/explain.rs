//! `postrider explain`: why subscribers received an event, or why not.

use postrider_client::encoded;
use postrider_program::StartError;
use postrider_settings::ClientArgs;

use crate::client::lists::{Span, each_page};
use crate::client::output::{Column, OutputArgs, Printer};
use crate::connection::client;

const COLUMNS: &[Column] = &[
    Column { name: "subscriber", path: "/subscriber_id" },
    Column { name: "matched", path: "/matched" },
    Column { name: "reason", path: "/reason" },
    Column { name: "url", path: "/url" },
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider explain evt_01h455vb4pex5vsknk084sn02q billing-eu")]
pub(crate) struct Args {
    /// Id of the event, evt_…
    event: String,
    /// Only this subscriber: its id or its uid
    subscriber: Option<String>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let mut path = format!("/v1/events/{}/explain", encoded(&args.event));
    if let Some(subscriber) = &args.subscriber {
        path = format!("{path}?subscriber_id={}", encoded(subscriber));
    }
    let mut printer = Printer::new(args.output, COLUMNS);
    each_page(&client, &path, Span::All, |page| Ok(printer.page(page)?)).await?;
    Ok(printer.end()?)
}
