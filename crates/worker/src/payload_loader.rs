//! The task that loads requested payloads.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use postrider_core::{EventId, chain};
use postrider_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::pace::Backoff;
use crate::payloads::Refused;
use crate::shared::Shared;

/// Loads requested payloads until `stop`, waiting while the database is unavailable.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let loading = async {
        loop {
            load_portion(&shared, &shared.payloads.next_portion().await).await;
        }
    };
    tokio::select! {
        () = loading => {}
        () = stop.cancelled() => {}
    }
}

/// Loads payloads together, or one by one if the database refuses, so that one bad payload does not hold up the others.
async fn load_portion(shared: &Shared, portion: &[EventId]) {
    match envelopes(shared, portion).await {
        Ok(found) => arrived(shared, portion, found),
        Err(_) if portion.len() > 1 => {
            for event in portion.chunks(1) {
                match envelopes(shared, event).await {
                    Ok(found) => arrived(shared, event, found),
                    Err(error) => refused(shared, event, error),
                }
            }
        }
        Err(error) => refused(shared, portion, error),
    }
}

fn arrived(shared: &Shared, portion: &[EventId], mut found: HashMap<EventId, Bytes>) {
    for event in portion {
        shared.payloads.arrived(*event, found.remove(event).ok_or(Refused::Gone));
    }
}

fn refused(shared: &Shared, portion: &[EventId], error: StoreError) {
    let error = Arc::new(error);
    for event in portion {
        shared.payloads.arrived(*event, Err(Refused::Unreadable(Arc::clone(&error))));
    }
}

async fn envelopes(shared: &Shared, events: &[EventId]) -> Result<HashMap<EventId, Bytes>, StoreError> {
    let mut backoff = Backoff::for_claims();
    loop {
        match shared.store.database().answered(shared.store.envelopes(events)).await {
            Err(error) if error.is_unavailable() => {
                if backoff.is_first() {
                    tracing::warn!(error = %chain(&error), "payloads not loaded; retrying");
                }
                tokio::time::sleep(backoff.next()).await;
            }
            answer => return answer,
        }
    }
}
