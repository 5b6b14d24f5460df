//! Makes partitions a week ahead, and learns which there are.

use std::time::Duration;

use postrider_core::Timestamp;
use postrider_store::StoreError;
use postrider_telemetry::metric;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(1)
}

/// Makes what is missing, and sets the gauges.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    if let Some(kept) = shared.store.keep_partitions().await? {
        let [oldest, payloads] =
            [kept.oldest, kept.oldest_payloads].map(|moment| moment.since(Timestamp::from_millis(0)));
        metric::partitions(kept.ahead, oldest, payloads);
    }
    Ok(())
}
