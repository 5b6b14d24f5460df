//! Reads whose deliveries somebody follows, so that the recorder notes what happens to them.

use std::time::Duration;

use postrider_store::StoreError;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    shared.store.read_watched().await
}
