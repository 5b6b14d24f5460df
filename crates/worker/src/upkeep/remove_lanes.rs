//! Removes the lanes of subscribers that were deleted a while ago.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

/// How many lanes are looked at in one run.
const MAX: u32 = 500;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(5)
}

/// Removes those in which nothing waits.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.queue().remove_lanes(MAX).await?;
    Ok(())
}
