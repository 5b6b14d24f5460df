//! Ends what waits for subscribers that were deactivated or deleted.

use std::sync::PoisonError;
use std::time::Duration;

use postrider_queue::LaneId;
use postrider_store::StoreError;
use postrider_telemetry::metric;
use tokio::time::Instant;

use crate::config::Config;
use crate::notice::notify_operators;
use crate::shared::Shared;

/// How many deliveries end in one transaction.
const MAX: u32 = 1_000;

/// How long one run goes on. The next run continues.
const RUN: Duration = Duration::from_secs(1);

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_millis(200)
}

/// Ends deliveries batch by batch, lane by lane in turn, and goes on where the last run ended. It rests after a batch for as
/// long as the batch took, so that other work has the database for half of the time at least.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let started = Instant::now();
    while started.elapsed() < RUN {
        let began = Instant::now();
        let after = place(shared);
        let drained = match shared.store.drain(after, MAX).await {
            Ok(Some(drained)) => drained,
            // Again from the first lane, unless that is where this began.
            Ok(None) if after.is_some() => {
                go_on_after(shared, None);
                continue;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                // A lane that cannot be drained does not hold up the others.
                go_on_after(shared, shared.store.queue().next_draining(after).await?);
                return Err(error);
            }
        };
        go_on_after(shared, Some(drained.lane));
        let took = began.elapsed();
        let status = drained.end.status().as_str();
        let mut ended = 0;
        for (event_type, deliveries) in &drained.deliveries {
            let label = shared.labels.value(event_type.as_str());
            metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => status)
                .increment(*deliveries);
            ended += deliveries;
        }
        tracing::debug!(subscriber = %drained.lane.0, ended, status, "ended deliveries of an inactive subscriber");
        notify_operators(shared, drained.notices).await;
        tokio::time::sleep(took).await;
    }
    Ok(())
}

fn place(shared: &Shared) -> Option<LaneId> {
    *shared.drained.lock().unwrap_or_else(PoisonError::into_inner)
}

fn go_on_after(shared: &Shared, lane: Option<LaneId>) {
    *shared.drained.lock().unwrap_or_else(PoisonError::into_inner) = lane;
}
