//! Holds the lanes of tenants that were deactivated, and releases those of tenants that are active again.
//!
//! The server that took the change begins at once. This goes on where it stopped.

use std::time::Duration;

use postrider_store::StoreError;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        let Some(tenant) = shared.store.tenant_being_held().await? else { return Ok(()) };
        shared.store.hold_lanes_of(&tenant).await?;
    }
    Ok(())
}
