//! Removes sessions of the console that have expired.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// Removes as many as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.remove_expired_sessions().await?;
    Ok(())
}
