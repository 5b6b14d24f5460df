//! Ends what waits for subscribers that were deactivated or deleted.

use std::sync::PoisonError;
use std::time::Duration;

use postrider_queue::LaneId;
use postrider_store::StoreError;
use postrider_telemetry::metric;

use super::steps::Steps;
use crate::config::Config;
use crate::notice::notify_operators;
use crate::shared::Shared;

/// How many deliveries end in one transaction.
const MAX: u32 = 1_000;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_millis(200)
}

/// Ends deliveries batch by batch, lane by lane in turn, and goes on where the last run ended.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await {
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
    }
    Ok(())
}

fn place(shared: &Shared) -> Option<LaneId> {
    *shared.drained.lock().unwrap_or_else(PoisonError::into_inner)
}

fn go_on_after(shared: &Shared, lane: Option<LaneId>) {
    *shared.drained.lock().unwrap_or_else(PoisonError::into_inner) = lane;
}
