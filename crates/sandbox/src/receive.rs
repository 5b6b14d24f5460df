//! Receiving a request: answering, checking and keeping it.

use std::time::Duration;

use postrider_core::script::{Ending, Step};
use postrider_core::{SubscriberId, TenantId};
use postrider_store::sandboxes::{NewSandboxRequest, TakenRequest, TakingSandbox};
use postrider_store::{Store, StoreError};

use crate::signatures;

/// The most headers, and bytes of them, that are kept.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// A request to a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxCall<'a> {
    /// The end of its URL.
    pub token: &'a str,
    /// Who sends it.
    pub sender: Sender<'a>,
    /// Its method.
    pub method: &'a str,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: &'a [u8],
}

/// Who sends a request to a sandbox.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// A worker, for a delivery of this tenant.
    Delivery {
        /// The tenant.
        tenant: &'a TenantId,
        /// The subscriber, whose secret signs the request.
        subscriber: SubscriberId,
        /// The subscriber's URL without its query.
        url: &'a str,
    },
    /// Another program, over HTTP.
    Anybody,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Received {
    /// There is no such sandbox.
    Missing,
    /// It is answered.
    Answered(Reply),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status, unless the connection is reset.
    pub status: u16,
    /// The headers beside the type and length of the body.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// How long to wait before the answer.
    pub delay: Duration,
    /// What becomes of the connection.
    pub ending: Ending,
}

impl Reply {
    /// The type of the body.
    pub const CONTENT_TYPE: &'static str = "application/json";

    /// The answer that a script asks for.
    pub fn of(step: &Step) -> Self {
        let mut headers = Vec::new();
        if let Some(seconds) = step.retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        if let Some(location) = step.location() {
            headers.push(("location", location.to_owned()));
        }
        let has_body = !matches!(step.status, 204 | 205 | 304);
        let body = if has_body { r#"{"receiver":"sandbox"}"#.to_owned() } else { String::new() };
        Self { status: step.status, headers, body, delay: step.delay, ending: step.ending }
    }

    /// The answer of a sandbox that takes no more requests. The status ends deliveries to it.
    fn over() -> Self {
        let body = r#"{"receiver":"sandbox","error":"the sandbox has expired, or received all the requests that it takes"}"#;
        Self { body: body.to_owned(), ..Self::of(&Step::status(410)) }
    }
}

/// Receives a request. It is kept before the reply's delay.
///
/// # Errors
/// Fails if the database is unavailable. The request may have been received all the same.
pub async fn receive(store: &Store, call: SandboxCall<'_>) -> Result<Received, StoreError> {
    let from = match call.sender {
        Sender::Delivery { tenant, url, .. } => TakingSandbox::Delivery(tenant, url),
        Sender::Anybody => TakingSandbox::Anybody,
    };
    let (tenant, sandbox, url, number, step) = match store.take_sandbox_request(call.token, from).await? {
        TakenRequest::Missing => return Ok(Received::Missing),
        TakenRequest::Over => return Ok(Received::Answered(Reply::over())),
        TakenRequest::Taken { tenant, sandbox, url, number, step } => (tenant, sandbox, url, number, step),
    };
    let secrets = match call.sender {
        Sender::Delivery { subscriber, .. } => signatures::secrets_of(store, &tenant, &[subscriber]).await?,
        Sender::Anybody => signatures::secrets_at(store, &tenant, &url).await?,
    };
    let headers = kept(call.headers);
    let now = store.ids().clock().now();
    let signatures = signatures::check(&secrets, &headers, call.body, now);
    let request = NewSandboxRequest {
        number,
        method: call.method,
        headers: &headers,
        body: call.body,
        signatures: &signatures,
        step,
    };
    store.keep_sandbox_request(&tenant, sandbox, request).await?;
    Ok(Received::Answered(Reply::of(&step)))
}

/// The headers that are kept: the first ones, up to their limits.
fn kept(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut room = MAX_HEADER_BYTES;
    let fits = |(name, value): &(String, String)| match room.checked_sub(name.len() + value.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    // PostgreSQL's text cannot hold NUL, which no header has.
    headers.into_iter().take(MAX_HEADERS).take_while(fits).collect()
}
