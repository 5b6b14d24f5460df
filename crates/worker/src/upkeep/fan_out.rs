//! Continues the fan-outs of processes that have died.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

/// How long a fan-out waits for its next step before this worker takes part. The process that stored the event makes its
/// deliveries itself, unless it dies or has many of them.
const LEFT: Duration = Duration::from_secs(2);

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Wakes this worker's own task for fan-outs if some wait.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    if shared.store.fan_outs_wait(LEFT).await? {
        shared.dispatcher.resume_fan_outs();
    }
    Ok(())
}
