//! Waiting for the deliveries of an event.

use std::time::Duration;

use postrider_api::delivery::DeliveryView;
use postrider_client::Client;
use postrider_core::DeliveryStatus;
use postrider_program::StartError;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use crate::client::lists::all;
use crate::client::output::{Column, OutputArgs, Printer, eprint_line};
use crate::client::progress::Progress;
use crate::status::late;

/// The pauses between looks at pending deliveries: short at first, for those that end at once.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1)];

const COLUMNS: &[Column] = &[
    Column { name: "id", path: "/id" },
    Column { name: "subscriber", path: "/subscriber_id" },
    Column { name: "status", path: "/status" },
    Column { name: "attempts", path: "/attempts" },
    Column { name: "response", path: "/response_code" },
    Column { name: "error", path: "/error_kind" },
];

/// Waits until all deliveries of an event have ended, prints them, and fails unless all of them succeeded.
pub(crate) async fn wait(
    client: &Client,
    event: &str,
    limit: Duration,
    output: OutputArgs,
) -> Result<(), StartError> {
    let deadline = Instant::now() + limit;
    let path = format!("/v1/deliveries?event_id={event}");
    let mut pauses = PAUSES.iter();
    let mut pause = PAUSES[0];
    let progress = Progress::new("deliveries");
    let deliveries = loop {
        let deliveries = all(client, &path).await?;
        let pending = deliveries.iter().filter(|delivery| status(delivery) == Some(DeliveryStatus::Pending));
        let pending = pending.count();
        if pending == 0 {
            break deliveries;
        }
        progress.set((deliveries.len() - pending) as u64, deliveries.len() as u64);
        if Instant::now() >= deadline {
            drop(progress);
            print(&deliveries, output)?;
            return Err(late(format!(
                "deliveries are still pending after {limit:?}; see `postrider deliveries list --event-id {event}`"
            )));
        }
        pause = pauses.next().copied().unwrap_or(pause);
        sleep(pause).await;
    };
    drop(progress);
    print(&deliveries, output)?;
    let failed =
        deliveries.iter().filter(|delivery| status(delivery) != Some(DeliveryStatus::Succeeded)).count();
    match (deliveries.len(), failed) {
        (0, _) => {
            eprint_line("no subscriber receives this event; see `postrider explain`");
            Ok(())
        }
        (_, 0) => Ok(()),
        (total, failed) => Err(format!("{failed} of {total} deliveries did not succeed").into()),
    }
}

fn status(delivery: &RawValue) -> Option<DeliveryStatus> {
    serde_json::from_str::<DeliveryView>(delivery.get()).ok().map(|delivery| delivery.status)
}

fn print(deliveries: &[Box<RawValue>], output: OutputArgs) -> Result<(), StartError> {
    let mut printer = Printer::new(output, COLUMNS);
    printer.page(deliveries)?;
    Ok(printer.end()?)
}
