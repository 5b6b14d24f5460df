//! Tells a queue outside the database what others have not told it.

use std::time::Duration;

use postrider_queue::Relayed;
use postrider_store::StoreError;
use postrider_telemetry::metric;

use crate::config::Config;
use crate::shared::Shared;

/// With the half second after which a row counts as left behind, a job reaches the queue within a second.
pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_millis(300)
}

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let Relayed { jobs, lanes } = shared.store.queue().relay().await?;
    if jobs > 0 {
        metrics::counter!(metric::RELAYED).increment(jobs);
        tracing::info!(jobs, lanes, "relayed jobs that had not reached the queue");
    }
    Ok(())
}
