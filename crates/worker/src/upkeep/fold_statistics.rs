//! Folds old roll-ups of deliveries into coarser ones.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(1)
}

/// Folds for as long as one run may take; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.fold_statistics().await?;
    Ok(())
}
