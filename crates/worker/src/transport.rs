//! Where the request of an attempt goes: to the network, or to a receiver inside Postrider.
//!
//! A URL of another form than theirs costs nothing here. One that has the form and names none of the tenant's receivers is sent
//! to like any other.

use postrider_core::inside::InsideUrl;
use postrider_core::policy::AttemptTimeout;
use postrider_delivery::{Request, Sent};
use postrider_sandbox::{Received, SandboxCall, Sender, receive};
use postrider_store::StoreError;
use postrider_store::loading::Work;
use tokio::time::Instant;

use crate::handovers;
use crate::shared::Shared;

/// Makes the request.
///
/// # Errors
/// Fails if the receiver is inside Postrider and the database is unavailable. Then it may have received the request.
pub(crate) async fn send(shared: &Shared, work: &Work, request: Request) -> Result<Sent, StoreError> {
    match InsideUrl::of(&work.recipient.url) {
        Some(InsideUrl::Sandbox(token)) if shared.config.sandbox => {
            to_sandbox(shared, work, token, request).await
        }
        Some(InsideUrl::Listener(token)) => handovers::send(shared, work, token, &request).await,
        _ => Ok(shared.client.send(request).await),
    }
}

async fn to_sandbox(shared: &Shared, work: &Work, token: &str, request: Request) -> Result<Sent, StoreError> {
    let started = Instant::now();
    let deadline = deadline(shared, &request, started);
    let call = SandboxCall {
        token,
        sender: Sender::Delivery {
            tenant: &work.delivery.tenant,
            subscriber: work.delivery.subscriber,
            url: request.url.redacted(),
        },
        method: request.method.as_str(),
        headers: headers(&request),
        body: &request.body,
    };
    let receiving = receive::receive(&shared.store, call);
    match shared.store.database().answered(receiving).await? {
        Received::Answered(reply) => Ok(postrider_sandbox::sent(reply, started, deadline).await),
        Received::Missing => Ok(shared.client.send(request).await),
    }
}

/// When the attempt ends.
pub(crate) fn deadline(shared: &Shared, request: &Request, started: Instant) -> Instant {
    started + request.timeout.map_or(shared.client.request_timeout(), AttemptTimeout::duration)
}

/// The headers of a request, with names in lower case.
pub(crate) fn headers(request: &Request) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    request.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
