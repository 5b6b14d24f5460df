//! Receivers, and what is expected of them.

use std::time::Duration;

use postrider_api::list::Count;
use postrider_api::sandbox::{SandboxRequest, SandboxRequestView, SandboxRequestsQuery, SandboxView, Wait};
use postrider_api::subscriber::{CreatedSubscriberView, SubscriberRequest};
use postrider_client::Client;
use postrider_core::SubscriberId;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Error;

/// A receiver inside Postrider, with its subscriber.
#[derive(Clone, Debug)]
pub struct Sandbox {
    client: Client,
    view: SandboxView,
    subscriber: SubscriberId,
}

/// A request that a test waits for.
#[derive(Clone, Debug)]
#[must_use = "call `within` to wait for it"]
pub struct Expected<'a> {
    sandbox: &'a Sandbox,
    event: String,
    status: Option<u16>,
}

/// How many requests a sandbox keeps.
const MOST: u32 = 200;

/// How long one call waits.
const WAIT: Duration = Duration::from_secs(10);

impl Sandbox {
    pub(crate) async fn create(client: Client, events: &[&str], script: Value) -> Result<Self, Error> {
        let request = SandboxRequest { ttl: None, script: Some(script) };
        let view = client.create_sandbox(&request).await?;
        let subscriber = SubscriberRequest {
            url: Some(view.url.clone()),
            events: Some(events.iter().map(|&pattern| pattern.to_owned()).collect()),
            ..SubscriberRequest::default()
        };
        let created: CreatedSubscriberView = client.post("/v1/subscribers", &subscriber).await?;
        Ok(Self { client, view, subscriber: created.subscriber.id })
    }

    /// Returns the URL, to which other programs can send as well.
    pub fn url(&self) -> &str {
        &self.view.url
    }

    /// Returns the id of the subscriber.
    pub fn subscriber(&self) -> SubscriberId {
        self.subscriber
    }

    /// Returns all requests that have arrived, oldest first.
    ///
    /// # Errors
    /// Fails if the server cannot be reached.
    pub async fn requests(&self) -> Result<Vec<SandboxRequestView>, Error> {
        self.waited(0, Duration::ZERO).await
    }

    /// Expects a request with an event of this type.
    pub fn expect(&self, event: &str) -> Expected<'_> {
        Expected { sandbox: self, event: event.to_owned(), status: None }
    }

    /// Checks what must hold of all requests so far, in words separated by commas: `verified` (every signature matches), `ordered`
    /// (no request has an earlier event than the one before it) and `unique` (no event comes again after a 2xx answer).
    ///
    /// # Errors
    /// Fails with the first that does not hold, and how.
    pub async fn verify(&self, expectations: &str) -> Result<(), Error> {
        let query =
            SandboxRequestsQuery { expect: Some(expectations.to_owned()), ..SandboxRequestsQuery::default() };
        self.client.sandbox_requests(self.view.id, &query).await?;
        Ok(())
    }

    async fn waited(&self, count: u32, wait: Duration) -> Result<Vec<SandboxRequestView>, Error> {
        let query = SandboxRequestsQuery {
            count: Some(Count(count)),
            wait: Some(Wait(wait)),
            ..SandboxRequestsQuery::default()
        };
        Ok(self.client.sandbox_requests(self.view.id, &query).await?.data)
    }
}

impl Expected<'_> {
    /// Expects that the sandbox answers it with this status.
    pub fn answered(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Waits for the request.
    ///
    /// # Errors
    /// Fails if no such request has arrived by then, or the server cannot be reached.
    pub async fn within(self, within: Duration) -> Result<SandboxRequestView, Error> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let requests = self.sandbox.waited((seen + 1).min(MOST), left.min(WAIT)).await?;
            seen = u32::try_from(requests.len()).unwrap_or(u32::MAX);
            let arrived = requests.iter().map(described).collect();
            if let Some(found) = requests.into_iter().find(|request| self.fits(request)) {
                return Ok(found);
            }
            if left.is_zero() {
                return Err(Error::Missing { event: self.event, status: self.status, within, arrived });
            }
        }
    }

    fn fits(&self, request: &SandboxRequestView) -> bool {
        let answers = |status: u16| {
            request.answer == json!(status) || request.answer.get("status") == Some(&json!(status))
        };
        request.event_type.as_deref() == Some(&*self.event) && self.status.is_none_or(answers)
    }
}

fn described(request: &SandboxRequestView) -> String {
    let event = request.event_type.as_deref().unwrap_or("none");
    format!("`{event}` (answered with {})", request.answer)
}
