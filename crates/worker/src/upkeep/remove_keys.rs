//! Removes idempotency keys of events and of other requests that are too old.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(1)
}

/// Removes as many as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.remove_old_keys(shared.config.retain_keys).await?;
    shared.store.remove_old_request_keys().await?;
    Ok(())
}
