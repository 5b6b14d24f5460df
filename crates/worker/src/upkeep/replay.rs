//! Takes the steps of replays.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use postrider_core::replay::ReplayStatus;
use postrider_store::StoreError;
use postrider_store::replays::ReplayStep;
use postrider_telemetry::metric;

use super::erase::count_cancelled;
use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Takes steps of one tenant's replay after the other's, and goes on where the last run ended.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        let after = shared.replayed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let began = Instant::now();
        let step = shared.store.step_replays(after.as_ref(), shared.dispatcher.filters()).await?;
        let Some(step) = step else {
            // What cancelled ones have left behind.
            if shared.store.clean_replays().await? {
                continue;
            }
            return Ok(());
        };
        metrics::histogram!(metric::REPLAY_STEP).record(began.elapsed().as_secs_f64());
        count(shared, &step);
        *shared.replayed.lock().unwrap_or_else(PoisonError::into_inner) = Some(step.tenant);
    }
    Ok(())
}

fn count(shared: &Shared, step: &ReplayStep) {
    let ReplayStep { tenant, replay, status, collected, done, cancelled, failures } = step;
    metrics::counter!(metric::REPLAYED, metric::RESULT => "done").increment(*done);
    count_cancelled(shared, cancelled);
    for (reason, count) in failures {
        metrics::counter!(metric::REPLAYED, metric::RESULT => reason.as_str()).increment(*count);
    }
    if *status == ReplayStatus::Done {
        metrics::counter!(metric::REPLAYS, metric::STATUS => status.as_str()).increment(1);
        tracing::info!(%tenant, %replay, "replay done");
    } else {
        tracing::debug!(%tenant, %replay, %status, collected, done, "took a step of a replay");
    }
}
