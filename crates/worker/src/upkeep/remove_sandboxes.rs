//! Removes sandboxes that have expired, and what they received.

use std::time::Duration;

use postrider_store::StoreError;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(30)
}

/// Removes as many as one run has time for; the next run continues.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await && shared.store.remove_old_sandboxes().await? {}
    Ok(())
}
