//! `postrider listen`: deliveries from a server reach a program on this machine.

mod local;
mod target;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use postrider_api::listener::{ListenerDeliveryView, ListenerRequest};
use postrider_client::{Client, ClientError, EventStream, Failure};
use postrider_core::{ListenerId, chain};
use postrider_program::{StartError, WithStatus};
use postrider_settings::ClientArgs;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::local::Local;
use self::target::target;
use crate::client::output::{OutputArgs, eprint_line, print_text};
use crate::connection::{client, failed};
use crate::status::REFUSED;

/// The pause before connecting again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider listen 3000 --types 'order.*' --path /hooks")]
pub(crate) struct Args {
    /// Where deliveries go: a port of this machine, host:port, or a URL
    #[arg(value_name = "TARGET")]
    target: String,
    /// Only events of these types, separated by commas, such as 'order.*'
    #[arg(long, value_name = "TYPES")]
    types: Option<String>,
    /// Path of the target
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Print the secret that signs the deliveries
    #[arg(long)]
    print_secret: bool,
    /// Also allow a target on another machine
    #[arg(long)]
    allow_remote: bool,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let url = target(&args.target, args.path.as_deref(), args.allow_remote)?;
    let client = client(&args.api)?;
    let stop = postrider_program::stop_signal()?;
    let mut listening = Listening { client, local: Arc::new(Local::new(url, args.output.output)?), args };
    let mut id = None;
    let ended = tokio::select! {
        ended = listening.run(&mut id) => ended,
        () = stop.cancelled() => Ok(()),
    };
    if let Some(id) = id {
        // Otherwise its lease ends within a minute.
        match listening.client.end_listener(id).await {
            Err(error) if error.failure() != Failure::NotFound => {
                eprint_line(format_args!(
                    "the listener was not ended, and will end by itself: {}",
                    chain(&error)
                ));
            }
            _ => {}
        }
    }
    ended
}

struct Listening {
    client: Client,
    local: Arc<Local>,
    args: Args,
}

/// Why a stream has ended.
enum Ended {
    /// The connection broke, or the server stops.
    Broken(String),
    /// The listener is gone.
    Gone,
    /// Another client follows it.
    Replaced,
    /// The key has lost the right to it.
    Refused,
}

impl Listening {
    /// Listens until that is refused. `id` is the listener that is to be ended afterwards.
    async fn run(&mut self, id: &mut Option<ListenerId>) -> Result<(), StartError> {
        let mut connected = false;
        loop {
            let listener = match *id {
                Some(listener) => listener,
                None => match self.create(id).await {
                    Ok(listener) => listener,
                    Err(error) if !connected || is_final(&error) => return Err(failed(error)),
                    Err(error) => {
                        eprint_line(format_args!("{}; trying again", chain(&error)));
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let ended = match self.client.listener_requests(listener).await {
                Ok(stream) => {
                    eprint_line(if connected { "connected again" } else { "connected" });
                    connected = true;
                    self.follow(listener, stream).await
                }
                Err(error) if error.failure() == Failure::NotFound => Ended::Gone,
                Err(error) if is_final(&error) => return Err(failed(error)),
                Err(error) => Ended::Broken(chain(&error).to_string()),
            };
            match ended {
                Ended::Broken(reason) => eprint_line(format_args!("{reason}; connecting again")),
                Ended::Gone => {
                    *id = None;
                    eprint_line("the listener's lease has ended; making a new one, with another secret");
                }
                Ended::Replaced => return Err(refused("another client follows this listener")),
                Ended::Refused => {
                    return Err(refused(
                        "the key has expired, was revoked, or lost the scope subscribers:write or payloads:read",
                    ));
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn create(&self, id: &mut Option<ListenerId>) -> Result<ListenerId, ClientError> {
        let types = self.args.types.as_deref();
        let events = types.map(|types| types.split(',').map(|pattern| pattern.trim().to_owned()).collect());
        let description = Some(format!("postrider listen {}", self.args.target));
        let listener = self.client.create_listener(&ListenerRequest { events, description }).await?;
        *id = Some(listener.id);
        eprint_line(format_args!("{} delivers to {}", listener.subscriber_id, self.local.shown()));
        if self.args.print_secret {
            // Standard output may be closed.
            let _ = print_text(format_args!("secret {}", &*listener.secret.secret));
        } else {
            eprint_line("--print-secret shows the secret that signs its deliveries");
        }
        Ok(listener.id)
    }

    /// Makes the requests of a stream, until it ends.
    async fn follow(&self, listener: ListenerId, mut stream: EventStream) -> Ended {
        // Dropped with the stream: the server hands what was not answered to the next one.
        let mut requests = JoinSet::new();
        loop {
            let next: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(stream.next());
            let event = tokio::select! {
                event = next => event,
                Some(_) = requests.join_next() => continue,
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return Ended::Broken("the server ended the stream".to_owned()),
                Err(error) => return Ended::Broken(chain(&error).to_string()),
            };
            match event.name.as_str() {
                "request" => match serde_json::from_str::<ListenerDeliveryView>(&event.data) {
                    Ok(request) => {
                        let (local, client) = (Arc::clone(&self.local), self.client.clone());
                        requests.spawn(async move { local.deliver(&client, listener, request).await });
                    }
                    Err(error) => eprint_line(format_args!("a request cannot be read: {error}")),
                },
                "end" => {
                    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                    return match data.get("reason").and_then(Value::as_str) {
                        Some("key") => Ended::Refused,
                        Some("ended") => Ended::Gone,
                        Some("replaced") => Ended::Replaced,
                        _ => Ended::Broken("the server stops".to_owned()),
                    };
                }
                _ => {}
            }
        }
    }
}

/// Whether trying again is of no use.
fn is_final(error: &ClientError) -> bool {
    matches!(error.failure(), Failure::Refused | Failure::NotFound)
        && !matches!(error, ClientError::Refused(problem) if problem.status == 429)
}

fn refused(reason: &str) -> StartError {
    WithStatus::new(REFUSED, reason.to_owned()).into()
}
