//! `postrider doctor`: what is wrong on the way to a server, in its database, or on the way to a subscriber.

mod database;
mod receiver;
mod server;
mod subscriber;

use postrider_program::StartError;
use postrider_settings::{ClientArgs, DatabaseArgs, QueueArgs};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::client::output::{Column, OutputArgs, Printer};
use crate::connection::{client, given};

const COLUMNS: &[Column] = &[
    Column { name: "check", path: "/check" },
    Column { name: "from", path: "/from" },
    Column { name: "result", path: "/result" },
    Column { name: "detail", path: "/detail" },
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider doctor billing-eu")]
pub(crate) struct Args {
    /// Subscriber to which the way is examined, by its id or its uid; otherwise the server is checked
    subscriber: Option<String>,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Fine,
    /// Something that may be wanted, such as plain HTTP.
    Warning,
    Failed,
}

/// Where a check was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This machine.
    Here,
    /// What the server recorded, or what a worker saw.
    Server,
}

/// Something that was checked.
#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    from: Place,
    finding: Finding,
    detail: String,
}

impl Check {
    pub(super) fn new(name: &'static str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { name, from: Place::Here, finding, detail: detail.into() }
    }

    /// A check that the server has made.
    pub(super) fn of_server(name: &'static str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { from: Place::Server, ..Self::new(name, finding, detail) }
    }

    /// The same check, whose failure is only a warning if something else shows that all is well.
    fn at_most_a_warning(mut self, is_well: bool) -> Self {
        if is_well && self.finding == Finding::Failed {
            self.finding = Finding::Warning;
        }
        self
    }
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let checks = if let Some(subscriber) = &args.subscriber {
        subscriber::checks(&client, subscriber).await?
    } else {
        let mut checks = server::checks(&client, &given(&args.api)?).await;
        if args.database.database_url.as_ref().is_some_and(|url| !url.expose().trim().is_empty()) {
            checks.extend(database::checks(&args.database, &args.queue).await);
        }
        checks
    };
    let mut items = Vec::new();
    for check in &checks {
        let result = match check.finding {
            Finding::Fine => "ok",
            Finding::Warning => "warning",
            Finding::Failed => "failed",
        };
        let from = match check.from {
            Place::Here => "here",
            Place::Server => "server",
        };
        let item = json!({"check": check.name, "from": from, "result": result, "detail": check.detail});
        items.push(to_raw_value(&item)?);
    }
    let mut printer = Printer::new(args.output, COLUMNS).uncut();
    printer.page(&items)?;
    printer.end()?;
    let failed = checks.iter().filter(|check| check.finding == Finding::Failed).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} checks failed", checks.len()).into()) }
}
