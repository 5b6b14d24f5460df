//! Removes rows of the audit trail that are too old.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// Removes as many as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let Some(age) = shared.config.retain_audit else { return Ok(()) };
    let now = shared.store.ids().clock().now();
    shared.store.remove_old_audit(now - age).await?;
    Ok(())
}
