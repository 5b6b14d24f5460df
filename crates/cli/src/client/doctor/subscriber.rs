//! Checks of everything on the way to a subscriber: from this machine without a request, and by a signed test event that a worker
//! delivers.

use std::time::Duration;

use postrider_api::attempt::{AttemptList, AttemptView};
use postrider_api::delivery::DeliveryList;
use postrider_api::event::DispatchedView;
use postrider_client::{Client, encoded};
use postrider_program::StartError;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Check, Finding, receiver};
use crate::connection::failed;

/// How long the first attempt may take, with its way through the queue.
const DEADLINE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(100);

/// The part of a subscriber that this command reads.
#[derive(Deserialize)]
struct State {
    url: String,
    active: bool,
    paused_at: Option<String>,
    deactivation_reason: Option<String>,
}

pub(super) async fn checks(client: &Client, subscriber: &str) -> Result<Vec<Check>, StartError> {
    let path = format!("/v1/subscribers/{}", encoded(subscriber));
    let state: State = client.get(&path).await.map_err(failed)?;
    let mut checks = vec![of_state(&state)];
    if !state.active {
        checks.extend(receiver::checks(&state.url).await);
        return Ok(checks);
    }
    let (from_here, attempt) = tokio::join!(receiver::checks(&state.url), attempt(client, &path));
    let attempt = attempt?;
    let is_reached = attempt.as_ref().is_some_and(|attempt| attempt.error.is_none());
    checks.extend(from_here.into_iter().map(|check| check.at_most_a_warning(is_reached)));
    let Some(attempt) = attempt else {
        let detail =
            "no attempt was made in 45 s: the subscriber is paused, its breaker is open, or no worker runs";
        checks.push(Check::of_server("attempt", Finding::Failed, detail));
        return Ok(checks);
    };
    checks.extend(of_attempt(&attempt, &state.url));
    Ok(checks)
}

/// Sends a test event, and returns the first attempt to deliver it.
async fn attempt(client: &Client, path: &str) -> Result<Option<AttemptView>, StartError> {
    let event: DispatchedView =
        client.post(&format!("{path}/test"), &serde_json::Map::new()).await.map_err(failed)?;
    first_attempt(client, &event.id.to_string()).await
}

fn of_state(state: &State) -> Check {
    match (&state.paused_at, state.active) {
        (_, false) => {
            let reason = state.deactivation_reason.as_deref().unwrap_or("no reason is recorded");
            Check::of_server(
                "subscriber",
                Finding::Failed,
                format!("it is not active: {reason}; `postrider subscribers activate` changes that"),
            )
        }
        (Some(since), true) => {
            Check::of_server("subscriber", Finding::Warning, format!("it is paused since {since}"))
        }
        (None, true) => {
            Check::of_server("subscriber", Finding::Fine, format!("it is active, at {}", state.url))
        }
    }
}

async fn first_attempt(client: &Client, event: &str) -> Result<Option<AttemptView>, StartError> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let deliveries: DeliveryList =
            client.get(&format!("/v1/deliveries?event_id={event}")).await.map_err(failed)?;
        if let Some(delivery) = deliveries.data.first().filter(|delivery| delivery.attempts > 0) {
            let path = format!("/v1/deliveries/{}/attempts", delivery.id);
            let attempts: AttemptList = client.get(&path).await.map_err(failed)?;
            if let Some(first) = attempts.data.into_iter().last() {
                return Ok(Some(first));
            }
        }
        sleep(PAUSE).await;
    }
    Ok(None)
}

/// Returns a check for each phase that the attempt entered, and for its result.
fn of_attempt(attempt: &AttemptView, url: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut phase = |name, time: Option<f64>, what: String| {
        if let Some(time) = time {
            checks.push(Check::of_server(name, Finding::Fine, format!("{what} in {time:.1} ms")));
        }
    };
    if let Some(timings) = &attempt.timings_ms {
        let address = attempt.remote_addr.as_deref().unwrap_or("the receiver");
        phase("name", timings.resolve, "the host was resolved".to_owned());
        phase("address", timings.connect, format!("{address} is allowed and was connected to"));
        phase("tls", timings.tls, "the handshake succeeded, and the certificate is valid".to_owned());
        phase("answer", timings.first_byte, "the receiver answered".to_owned());
    }
    checks.push(if let Some(error) = &attempt.error {
        let advice = attempt.advice.as_deref().map(|advice| format!("; {advice}")).unwrap_or_default();
        Check::of_server("attempt", Finding::Failed, format!("{}{advice}", error.message))
    } else {
        let status = attempt.response.as_ref().map_or(0, |response| response.status);
        let took = attempt.duration_ms;
        let detail = format!("a signed request to {url} succeeded with {status}, in {took:.1} ms");
        Check::of_server("attempt", Finding::Fine, detail)
    });
    checks
}
