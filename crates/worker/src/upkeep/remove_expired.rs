//! Removes what is older than the retention.

use std::sync::PoisonError;
use std::time::Duration;

use postrider_store::StoreError;
use postrider_store::retention::Removed;

use crate::config::Config;
use crate::shared::Shared;

/// Reading whether anything in an old partition must stay takes a while, and the answer seldom changes.
pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// How much one run does, and for how long it leaves locks and the database to others in between.
const CALLS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(500);

/// Removes as much as one run may; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let retention = shared.store.retention(shared.config.retention).await?;
    if shared.retention.lock().unwrap_or_else(PoisonError::into_inner).replace(retention) != Some(retention) {
        tracing::info!(
            history = %retention.history,
            payloads = %retention.payloads,
            dead_letters = %retention.dead,
            "retention: older data is removed (POSTRIDER_RETAIN_HISTORY, POSTRIDER_RETAIN_PAYLOADS, \
             POSTRIDER_RETAIN_DEAD)"
        );
    }
    let mut stayed = Vec::new();
    for _ in 0..CALLS {
        let Removed { partitions, stay, events, more } = shared.store.remove_expired(retention).await?;
        for partition in partitions {
            tracing::info!(partition, "dropped an old partition");
        }
        if events > 0 {
            tracing::info!(events, "deleted old events");
        }
        stayed = stay;
        if !more {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    while shared.store.remove_old_versions(retention).await? {}
    for (partition, reason) in stayed {
        tracing::warn!(partition, reason = reason.as_str(), "an old partition stays");
    }
    Ok(())
}
