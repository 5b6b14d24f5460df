//! Checks of everything on the way to a subscriber: a worker delivers a signed test event.

use std::time::Duration;

use postrider_api::attempt::{AttemptList, AttemptView};
use postrider_api::delivery::DeliveryList;
use postrider_api::event::DispatchedView;
use postrider_client::{Client, encoded};
use postrider_program::StartError;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Check, Finding};
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
        return Ok(checks);
    }
    let event: DispatchedView =
        client.post(&format!("{path}/test"), &serde_json::Map::new()).await.map_err(failed)?;
    let Some(attempt) = first_attempt(client, &event.id.to_string()).await? else {
        let detail =
            "no attempt was made in 45 s: the subscriber is paused, its breaker is open, or no worker runs";
        checks.push(Check::new("attempt", Finding::Failed, detail));
        return Ok(checks);
    };
    checks.extend(of_attempt(&attempt, &state.url));
    Ok(checks)
}

fn of_state(state: &State) -> Check {
    match (&state.paused_at, state.active) {
        (_, false) => {
            let reason = state.deactivation_reason.as_deref().unwrap_or("no reason is recorded");
            Check::new(
                "subscriber",
                Finding::Failed,
                format!("it is not active: {reason}; `postrider subscribers activate` changes that"),
            )
        }
        (Some(since), true) => {
            Check::new("subscriber", Finding::Warning, format!("it is paused since {since}"))
        }
        (None, true) => Check::new("subscriber", Finding::Fine, format!("it is active, at {}", state.url)),
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
            checks.push(Check::new(name, Finding::Fine, format!("{what} in {time:.1} ms")));
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
        Check::new("attempt", Finding::Failed, format!("{}{advice}", error.message))
    } else {
        let status = attempt.response.as_ref().map_or(0, |response| response.status);
        let took = attempt.duration_ms;
        let detail = format!("a signed request to {url} succeeded with {status}, in {took:.1} ms");
        Check::new("attempt", Finding::Fine, detail)
    });
    checks
}
