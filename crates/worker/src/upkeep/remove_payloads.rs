//! Removes the payloads that are older than they are kept, while their events stay.

use std::time::Duration;

use postrider_store::StoreError;
use postrider_store::retention::{PayloadStep, Sweep};
use tokio::time::Instant;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_mins(10)
}

/// How long a run rests after a step at least, so that it takes no more than half of a connection.
const REST: Duration = Duration::from_millis(20);

/// How long it leaves a lock to others, and how often, before the next run continues.
const PAUSE: Duration = Duration::from_millis(500);
const MOST_PAUSES: u32 = 100;

/// Takes step after step until nothing is left. It rests after each for as long as the step took, so that other work has the
/// database for half of the time at least.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let retention = shared.store.retention(shared.config.retention).await?;
    let (mut sweep, mut pauses, mut events) = (Sweep::default(), 0, 0);
    loop {
        let began = Instant::now();
        let Some(step) = shared.store.remove_expired_payloads(retention, &mut sweep).await? else { break };
        match step {
            PayloadStep::Taken => {}
            PayloadStep::GaveWay => {
                pauses += 1;
                if pauses > MOST_PAUSES {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            PayloadStep::Removed(partition) => {
                tracing::info!(partition, "removed the payloads of an old partition");
            }
            PayloadStep::Stays(partition, reason) => {
                tracing::warn!(partition, reason = reason.as_str(), "the payloads of an old partition stay");
            }
            PayloadStep::Events(removed) => events += removed,
        }
        tokio::time::sleep(began.elapsed().max(REST)).await;
    }
    if events > 0 {
        tracing::info!(events, "removed the payloads of old events");
    }
    Ok(())
}
