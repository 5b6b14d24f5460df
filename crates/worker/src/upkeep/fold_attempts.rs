//! Folds the roll-ups of attempts.

use std::time::Duration;

use postrider_store::{Folded, StoreError};

use crate::config::Config;
use crate::shared::Shared;

/// Short, because until then each recorded batch has rows of its own.
pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(10)
}

/// Folds as much as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let Folded { unreadable, .. } = shared.store.fold_attempts().await?;
    if unreadable > 0 {
        tracing::error!(rows = unreadable, "unreadable roll-ups of attempts; the series lack their counts");
    }
    Ok(())
}
