//! Where the request of an attempt goes: to the network, or to a receiver inside Postrider.
//!
//! A URL of another form than theirs costs nothing here. One that has the form and names none of the tenant's receivers is sent
//! to like any other.

mod listener;
mod request;
mod sandbox;

use postrider_core::inside::InsideUrl;
use postrider_delivery::{Request, Sent};
use postrider_store::StoreError;
use postrider_store::loading::Work;

use crate::shared::Shared;

/// Makes the request.
///
/// # Errors
/// Fails if the receiver is inside Postrider and the database is unavailable. Then it may have received the request.
pub(crate) async fn send(shared: &Shared, work: &Work, request: Request) -> Result<Sent, StoreError> {
    match InsideUrl::of(&work.recipient.url) {
        Some(InsideUrl::Sandbox(token)) if shared.config.sandbox => {
            sandbox::send(shared, work, token, request).await
        }
        Some(InsideUrl::Listener(token)) => listener::send(shared, work, token, &request).await,
        _ => Ok(shared.client.send(request).await),
    }
}
