//! Reads the egress proxies of tenants again if one was changed.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(2)
}

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.proxies.refresh(&shared.store).await
}
