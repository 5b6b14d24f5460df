//! Parks the jobs of paused lanes, and brings back those of lanes that are open again.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

/// How many jobs are moved at once: few and often, so that other statements do not wait long.
const MAX: u32 = 500;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_millis(100)
}

/// Moves up to [`MAX`] jobs.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.queue().park(MAX).await?;
    Ok(())
}
