//! `postrider curl`: the request of a delivery as a command.

use postrider_api::delivery::DeliveryView;
use postrider_api::simulate::{SimulateRequest, SimulatedRequestView, SimulationList};
use postrider_client::{Client, encoded};
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde::Deserialize;

use crate::client::output::{eprint_line, print_text};
use crate::connection::{client, failed};

/// Headers that describe how Postrider would have sent the body, and not how curl sends it.
const OF_TRANSFER: [&str; 2] = ["content-encoding", "accept-encoding"];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider curl dlv_01h455vb4pex5vsknk084sn02q | sh")]
pub(crate) struct Args {
    /// Id of the delivery, dlv_…
    delivery: String,
    #[command(flatten)]
    api: ClientArgs,
}

/// The part of a subscriber that this command reads.
#[derive(Deserialize)]
struct Receiver {
    url: String,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let path = format!("/v1/deliveries/{}", encoded(&args.delivery));
    let delivery: DeliveryView = client.get(&path).await.map_err(failed)?;
    let subscriber = delivery.subscriber_id.to_string();
    let Receiver { url } = client.get(&format!("/v1/subscribers/{subscriber}")).await.map_err(failed)?;
    let request = simulated(&client, delivery.event_id.to_string(), subscriber).await?;
    let has_masked = request.headers.iter().any(|header| header.value.contains("***"));
    print_text(command(&url, &request))?;
    if has_masked {
        eprint_line(
            "secret values are masked as ***; signatures are shown to keys with the scope secrets:read",
        );
    }
    Ok(())
}

async fn simulated(
    client: &Client,
    event: String,
    subscriber: String,
) -> Result<SimulatedRequestView, StartError> {
    let request = SimulateRequest {
        event: None,
        event_id: Some(event),
        subscriber_id: Some(subscriber),
        subscriber: None,
        script: None,
    };
    let list: SimulationList = client.post("/v1/simulate", &request).await.map_err(failed)?;
    let simulation = list.data.into_iter().next().ok_or("the server simulated no request")?;
    let error = simulation.transform.and_then(|transform| transform.error);
    simulation.request.ok_or_else(|| match error {
        Some(error) => format!("the subscriber's transform fails: {error}").into(),
        None => "the server simulated no request".into(),
    })
}

/// Returns the command that makes a request, for a POSIX shell.
fn command(url: &str, request: &SimulatedRequestView) -> String {
    let mut lines = vec![format!("curl -sS -X {} {}", quoted(&request.method), quoted(url))];
    let headers = request.headers.iter().filter(|header| !OF_TRANSFER.contains(&header.name.as_str()));
    lines.extend(
        headers.map(|header| format!("-H {}", quoted(&format!("{}: {}", header.name, header.value)))),
    );
    if !request.body.is_empty() {
        lines.push(format!("--data-binary {}", quoted(&request.body)));
    }
    lines.join(" \\\n  ")
}

/// Quotes a text for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use postrider_api::attempt::HeaderView;

    use super::*;

    #[test]
    fn a_shell_reads_what_was_quoted() {
        let header = |name: &str, value: &str| HeaderView { name: name.into(), value: value.into() };
        let request = SimulatedRequestView {
            method: "POST".to_owned(),
            url: "https://example.com/***".to_owned(),
            headers: vec![header("x-a", "it's"), header("content-encoding", "gzip")],
            body: "{\"a\":\"$(id) `id` \\ '\"}".to_owned(),
            body_sha256: String::new(),
        };
        let printed = command("https://example.com/?a=b&c='", &request);
        let shell = format!("curl() {{ printf '%s\\n' \"$@\"; }}\n{printed}");
        let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
        let expected = "-sS\n-X\nPOST\nhttps://example.com/?a=b&c='\n-H\nx-a: it's\n--data-binary\n{\"a\":\"$(id) `id` \\ '\"}\n";
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
