//! Folds what was counted into the rows that statistics are read from.

use std::time::Duration;

use postrider_store::{Folded, StoreError};

use crate::config::Config;
use crate::shared::Shared;

/// Short, because a busy deployment counts a lot.
pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(5)
}

/// Folds as much as one run has time for, if it is due; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    if !shared.store.statistics_are_due().await? {
        return Ok(());
    }
    let Folded { unreadable, .. } = shared.store.fold_statistics().await?;
    if unreadable > 0 {
        tracing::error!(rows = unreadable, "unreadable roll-ups; the statistics lack their counts");
    }
    Ok(())
}
