//! Measures the queue, the circuit breakers, the fan-outs and the clock.

use std::time::Duration;

use postrider_queue::{Backlog, Depth};
use postrider_store::StoreError;
use postrider_store::fan_out::OpenFanOuts;
use postrider_store::health::Breakers;
use postrider_telemetry::metric;

use crate::config::Config;
use crate::shared::Shared;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(5)
}

/// Sets the gauges.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let Depth { ready, scheduled, held, running, oldest_ready } = shared.store.queue().depth().await?;
    let jobs = [("ready", ready), ("scheduled", scheduled), ("held", held), ("running", running)];
    for (state, jobs) in jobs {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 jobs.
        metrics::gauge!(metric::QUEUE_DEPTH, metric::STATE => state).set(jobs as f64);
    }
    let Breakers { closed, open, half_open } = shared.store.breakers().await?;
    for (state, count) in [("closed", closed), ("open", open), ("half_open", half_open)] {
        #[allow(clippy::cast_precision_loss)] // As above.
        metrics::gauge!(metric::BREAKERS, metric::STATE => state).set(count as f64);
    }
    let OpenFanOuts { count, oldest } = shared.store.open_fan_outs().await?;
    metrics::gauge!(metric::FAN_OUTS).set(count);
    metrics::gauge!(metric::FAN_OUT_OLDEST).set(oldest.as_secs_f64());
    if let Some(Backlog { transactions, oldest }) = shared.store.queue().backlog().await? {
        #[allow(clippy::cast_precision_loss)] // 10,000 at most.
        metrics::gauge!(metric::OUTBOX).set(transactions as f64);
        metrics::gauge!(metric::OUTBOX_OLDEST).set(oldest.unwrap_or_default().as_secs_f64());
    }
    let skew = shared.store.clock_skew().await?;
    shared.clock.observe(skew.millis, skew.uncertainty);
    metrics::gauge!(metric::QUEUE_OLDEST_READY).set(oldest_ready.unwrap_or_default().as_secs_f64());
    Ok(())
}
