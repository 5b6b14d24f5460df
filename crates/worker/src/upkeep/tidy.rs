//! Keeps claims cheap.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Tidies the queue.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.queue().tidy().await?;
    Ok(())
}
