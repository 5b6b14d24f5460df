//! Deletes the data of tenants whose deletion was requested.

use std::time::Duration;

use postrider_store::StoreError;
use tokio::time::Instant;

use crate::config::Config;
use crate::shared::Shared;

/// How long one run goes on. The next run continues.
const RUN: Duration = Duration::from_secs(1);

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Takes step after step, with rests that leave the database to other work for half of the time at least.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let started = Instant::now();
    while started.elapsed() < RUN {
        let began = Instant::now();
        let Some(deleting) = shared.store.delete_tenant_data().await? else { return Ok(()) };
        let took = began.elapsed();
        if deleting.complete {
            tracing::info!(tenant = %deleting.tenant, "deleted a tenant with all its data");
        }
        tokio::time::sleep(took).await;
    }
    Ok(())
}
