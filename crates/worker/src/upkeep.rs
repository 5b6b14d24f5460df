//! What goes on beside delivering: leases are extended, jobs of lost workers rescued, the queue measured.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::DeadReason;
use postrider_queue::{Depth, Finish, LeaseToken, Rescue};
use postrider_store::attempt::{End, Outcome};
use postrider_store::health::Breakers;
use postrider_store::loading::Loaded;
use postrider_store::{Folded, StoreError};
use postrider_telemetry::metric;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Shared;
use crate::notice;

/// How many jobs are rescued at once.
const RESCUE: u32 = 500;

/// How many jobs of paused lanes are set aside or brought back at once: few and often, as others wait for the processor.
const PARK: u32 = 500;

/// How often that is looked after.
const PARK_EVERY: Duration = Duration::from_millis(100);

/// How often old statistics are folded into coarser ones; every few minutes is often enough.
const FOLD_EVERY: Duration = Duration::from_mins(5);

/// How often the roll-ups of attempts are folded: until then, each recorded batch is rows of its own.
const FOLD_ATTEMPTS_EVERY: Duration = Duration::from_secs(10);

/// How often the queue is measured.
const MEASURE: Duration = Duration::from_secs(5);

/// Starts the upkeep, which goes on until `stop`.
pub(crate) fn start(shared: &Arc<Shared>, stop: &CancellationToken) -> TaskTracker {
    let lease = shared.config.lease;
    let tasks = TaskTracker::new();
    let every = |interval: Duration, task: Task| {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(interval) => task.run(&shared).await,
                }
            }
        });
    };
    every(lease / 3, Task::Extend);
    every((lease / 6).min(Duration::from_secs(5)), Task::Rescue);
    every(PARK_EVERY, Task::Park);
    every(FOLD_EVERY, Task::Fold);
    every(FOLD_ATTEMPTS_EVERY, Task::FoldAttempts);
    every(MEASURE, Task::Measure);
    tasks.close();
    tasks
}

#[derive(Clone, Copy)]
enum Task {
    Extend,
    Rescue,
    Park,
    Fold,
    FoldAttempts,
    Measure,
}

impl Task {
    async fn run(self, shared: &Shared) {
        let database = shared.store.database();
        let (done, what) = match self {
            Self::Extend => (database.answered(extend(shared)).await, "cannot extend leases"),
            Self::Rescue => (database.answered(rescue(shared)).await, "cannot rescue jobs"),
            Self::Park => (database.answered(park(shared)).await, "cannot set jobs of paused lanes aside"),
            Self::Fold => (database.answered(fold(shared)).await, "cannot fold statistics"),
            Self::FoldAttempts => (database.answered(fold_attempts(shared)).await, "cannot fold roll-ups"),
            Self::Measure => (database.answered(measure(shared)).await, "cannot measure the queue"),
        };
        if let Err(error) = done {
            tracing::warn!(error = &error as &dyn std::error::Error, "{what}; trying again");
        }
    }
}

async fn extend(shared: &Shared) -> Result<(), StoreError> {
    let leases = shared.in_flight.leases();
    if leases.is_empty() {
        return Ok(());
    }
    let held = shared.store.queue().extend(&leases, shared.config.lease).await?;
    metrics::counter!(metric::LEASES_EXTENDED).increment(held.len() as u64);
    let lost: Vec<_> = leases.into_iter().filter(|lease| !held.contains(&lease.job)).collect();
    let lost = shared.in_flight.lost(&lost);
    if lost > 0 {
        metrics::counter!(metric::LEASES_LOST).increment(lost);
        tracing::warn!(jobs = lost, "leases were lost; the work on those jobs is given up");
    }
    Ok(())
}

async fn rescue(shared: &Shared) -> Result<(), StoreError> {
    let queue = shared.store.queue();
    let rescue = Rescue {
        max: RESCUE,
        max_rescues: shared.config.max_rescues,
        token: LeaseToken(shared.store.ids().next_uuid()),
        lease: shared.config.lease,
    };
    let rescued = queue.rescue(&rescue).await?;
    if rescued.returned > 0 {
        metrics::counter!(metric::JOBS_RESCUED).increment(rescued.returned);
        tracing::warn!(jobs = rescued.returned, "took back jobs whose worker let its lease expire");
    }
    if rescued.exhausted.is_empty() {
        return Ok(());
    }
    let (mut dead, mut others) = (Vec::new(), Vec::new());
    for (job, loaded) in rescued.exhausted.iter().zip(shared.store.load(&rescued.exhausted).await?) {
        let delivery = match loaded {
            Loaded::Deliver(work) => work.delivery,
            Loaded::Inactive(delivery, _) | Loaded::Unreadable(delivery, _) => delivery,
            Loaded::NotDue(delay) => {
                others.push((job.lease, Finish::RetryIn(delay)));
                continue;
            }
            Loaded::Nothing => {
                others.push((job.lease, Finish::Bury));
                continue;
            }
        };
        tracing::error!(
            tenant = %delivery.tenant,
            delivery = %delivery.id,
            subscriber = %delivery.subscriber,
            rescues = job.rescues,
            "a delivery was lost with its worker too often; it is dead"
        );
        let end = End::Dead(DeadReason::RescuedTooOften);
        dead.push(Outcome { lease: job.lease, delivery, attempt: None, end });
    }
    let recorded = shared.store.record(&dead, &others, &shared.config.breaker).await?;
    for outcome in dead.iter().filter(|outcome| !recorded.lost.contains(&outcome.lease.job)) {
        let label = shared.labels.value(outcome.delivery.event_type.as_str());
        metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => "dead")
            .increment(1);
    }
    notice::tell(shared, recorded.notices).await;
    Ok(())
}

async fn park(shared: &Shared) -> Result<(), StoreError> {
    shared.store.queue().park(PARK).await?;
    Ok(())
}

/// Bit by bit: what there was no time for is left for the next time.
async fn fold(shared: &Shared) -> Result<(), StoreError> {
    shared.store.fold_statistics().await?;
    Ok(())
}

async fn fold_attempts(shared: &Shared) -> Result<(), StoreError> {
    let Folded { unreadable, .. } = shared.store.fold_attempts().await?;
    if unreadable > 0 {
        tracing::error!(rows = unreadable, "roll-ups of attempts could not be read; the series lack them");
    }
    Ok(())
}

async fn measure(shared: &Shared) -> Result<(), StoreError> {
    let Depth { ready, scheduled, parked: held, running, oldest_ready } =
        shared.store.queue().depth().await?;
    for (state, jobs) in [("ready", ready), ("scheduled", scheduled), ("held", held), ("running", running)] {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 jobs.
        metrics::gauge!(metric::QUEUE_DEPTH, metric::STATE => state).set(jobs as f64);
    }
    let Breakers { closed, open, half_open } = shared.store.breakers().await?;
    for (state, count) in [("closed", closed), ("open", open), ("half_open", half_open)] {
        #[allow(clippy::cast_precision_loss)] // As above.
        metrics::gauge!(metric::BREAKERS, metric::STATE => state).set(count as f64);
    }
    metrics::gauge!(metric::QUEUE_OLDEST_READY).set(oldest_ready.unwrap_or_default().as_secs_f64());
    Ok(())
}
