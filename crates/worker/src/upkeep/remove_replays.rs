//! Removes replays that are too old.

use std::time::Duration;

use postrider_store::StoreError;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// Removes as many as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let retention = shared.store.retention(shared.config.retention).await?;
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        if !shared.store.remove_old_replays(retention).await? {
            return Ok(());
        }
    }
    Ok(())
}
