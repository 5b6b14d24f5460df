//! Fills a queue outside the database again after it has lost jobs.

use std::time::Duration;

use postrider_store::StoreError;
use postrider_store::refill::{Progress, Refill};
use postrider_telemetry::metric;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Takes steps until the queue is filled, with rests in between.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::with_rests(Duration::from_millis(1));
    while steps.next().await {
        match shared.store.refill().await? {
            Refill::NotNeeded => return Ok(()),
            Refill::Step(Progress { begins: true, .. }) => {
                metrics::counter!(metric::REFILLS).increment(1);
                tracing::warn!("the queue has lost jobs, or is new; filling it from the database");
            }
            Refill::Step(_) => {}
            Refill::Complete(Progress { offered, missing, .. }) => {
                metrics::counter!(metric::REFILLED).increment(missing);
                tracing::info!(offered, missing, "the queue is filled");
                return Ok(());
            }
        }
    }
    Ok(())
}
