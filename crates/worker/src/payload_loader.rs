//! The task that loads requested payloads.

use std::sync::Arc;

use postrider_core::chain;
use tokio_util::sync::CancellationToken;

use crate::pace::Backoff;
use crate::payloads::{Portion, Refused};
use crate::shared::Shared;

/// Loads requested payloads until `stop`, waiting while the database is unavailable.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    tokio::select! {
        () = load(&shared) => {}
        () = stop.cancelled() => {}
    }
}

/// Loads payloads together. After a failure they go to the end of the line and the next one is loaded alone, so that no
/// payload holds up the others: neither one that the database refuses to read, nor one so large that reading it takes too
/// long.
async fn load(shared: &Shared) {
    let mut backoff = Backoff::for_claims();
    let mut portion = Portion::Several;
    loop {
        let events = shared.payloads.next_portion(portion).await;
        match shared.store.database().answered(shared.store.envelopes(&events)).await {
            Ok(mut found) => {
                for (_, event) in events {
                    shared.payloads.arrived(event, found.remove(&event).ok_or(Refused::Gone));
                }
                backoff.reset();
                portion = Portion::Several;
            }
            Err(error) if error.is_unavailable() => {
                if backoff.is_first() {
                    tracing::warn!(error = %chain(&error), "payloads not loaded; retrying");
                }
                shared.payloads.put_back(events);
                portion = Portion::Single;
                tokio::time::sleep(backoff.next()).await;
            }
            Err(_) if events.len() > 1 => {
                shared.payloads.put_back(events);
                portion = Portion::Single;
            }
            Err(error) => {
                let error = Arc::new(error);
                for (_, event) in events {
                    shared.payloads.arrived(event, Err(Refused::Unreadable(Arc::clone(&error))));
                }
            }
        }
    }
}
