//! Extends this worker's leases.

use std::time::Duration;

use postrider_store::StoreError;
use postrider_telemetry::metric;

use crate::config::Config;
use crate::shared::Shared;

/// A lease survives one extension that fails.
pub(super) fn interval(config: &Config) -> Duration {
    config.lease / 3
}

/// Extends all leases, and cancels the attempts of those that were lost.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let leases = shared.in_flight.leases();
    if leases.is_empty() {
        return Ok(());
    }
    let extended = shared.store.queue().extend(&leases, shared.config.lease).await?;
    metrics::counter!(metric::LEASES_EXTENDED).increment(extended.len() as u64);
    let lost: Vec<_> = leases.into_iter().filter(|lease| !extended.contains(&lease.job)).collect();
    let lost = shared.in_flight.lose(&lost);
    if lost > 0 {
        metrics::counter!(metric::LEASES_LOST).increment(lost);
        tracing::warn!(jobs = lost, "leases lost; cancelled the attempts on those jobs");
    }
    Ok(())
}
