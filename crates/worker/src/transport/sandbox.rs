//! Attempts at sandboxes.

use postrider_delivery::{Request, Sent};
use postrider_sandbox::{Received, SandboxCall, Sender, receive};
use postrider_store::StoreError;
use postrider_store::loading::Work;
use tokio::time::Instant;

use super::request::{deadline, headers};
use crate::shared::Shared;

/// Runs the sandbox with this token. If the tenant has none, the request is sent like any other.
pub(super) async fn send(
    shared: &Shared,
    work: &Work,
    token: &str,
    request: Request,
) -> Result<Sent, StoreError> {
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
