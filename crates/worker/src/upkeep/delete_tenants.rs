//! Deletes the data of tenants whose deletion was requested.

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
        let Some(deleting) = shared.store.delete_tenant_data().await? else { return Ok(()) };
        if deleting.complete {
            tracing::info!(tenant = %deleting.tenant, "deleted a tenant with all its data");
        }
    }
    Ok(())
}
