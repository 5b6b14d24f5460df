//! Removes what is older than the own retention of tenants.

use std::time::Duration;

use postrider_store::StoreError;
use postrider_store::retention::TenantSweep;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// How long a run rests after a step at least.
const REST: Duration = Duration::from_millis(20);

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let retention = shared.store.retention(shared.config.retention).await?;
    let (mut sweep, mut events, mut payloads) = (TenantSweep::default(), 0, 0);
    let mut steps = Steps::with_rests(REST);
    while steps.next().await {
        let Some(done) = shared.store.remove_expired_of_tenants(retention, &mut sweep).await? else { break };
        events += done.events;
        payloads += done.payloads;
    }
    if events + payloads > 0 {
        tracing::info!(events, payloads, "removed old data of tenants with a retention of their own");
    }
    Ok(())
}
