//! Rescues jobs whose leases have expired, and ends the deliveries of jobs that were rescued too often.

use std::time::Duration;

use postrider_core::DeadReason;
use postrider_queue::{ClaimedJob, Finish, LeaseToken, Rescue};
use postrider_store::StoreError;
use postrider_store::attempt::{End, Outcome};
use postrider_store::loading::Loaded;
use postrider_telemetry::metric;

use crate::config::Config;
use crate::notice::notify_operators;
use crate::shared::Shared;

/// How many jobs are rescued at once.
const MAX: u32 = 500;

pub(super) fn interval(config: &Config) -> Duration {
    (config.lease / 6).min(Duration::from_secs(5))
}

/// Rescues expired jobs.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let rescue = Rescue {
        max: MAX,
        max_rescues: shared.config.max_rescues,
        token: LeaseToken(shared.store.ids().next_uuid()),
        lease: shared.config.lease,
    };
    let rescued = shared.store.queue().rescue(&rescue).await?;
    if rescued.returned > 0 {
        metrics::counter!(metric::JOBS_RESCUED).increment(rescued.returned);
        tracing::warn!(jobs = rescued.returned, "rescued jobs whose leases had expired");
    }
    if rescued.exhausted.is_empty() { Ok(()) } else { end(shared, &rescued.exhausted).await }
}

/// Ends the deliveries of jobs that were rescued too often.
async fn end(shared: &Shared, exhausted: &[ClaimedJob]) -> Result<(), StoreError> {
    let (mut ended, mut finishes) = (Vec::new(), Vec::new());
    for (job, loaded) in exhausted.iter().zip(shared.store.load(exhausted).await?) {
        let delivery = match loaded {
            Loaded::Deliver(work) => work.delivery,
            Loaded::Inactive(delivery, _) | Loaded::Unreadable(delivery, _) => delivery,
            Loaded::PayloadGone(delivery) => {
                ended.push(Outcome { lease: job.lease, delivery, attempt: None, end: End::Cancelled });
                continue;
            }
            Loaded::NotDue(delay) => {
                finishes.push((job.lease, Finish::RetryIn(delay)));
                continue;
            }
            Loaded::Nothing => {
                finishes.push((job.lease, Finish::Bury));
                continue;
            }
        };
        tracing::error!(
            tenant = %delivery.tenant,
            delivery = %delivery.id,
            subscriber = %delivery.subscriber,
            rescues = job.rescues,
            "delivery is dead because its job was rescued too often"
        );
        let end = End::Dead(DeadReason::RescuedTooOften);
        ended.push(Outcome { lease: job.lease, delivery, attempt: None, end });
    }
    let recorded = shared.store.record(&ended, &finishes, &shared.config.breaker).await?;
    for outcome in ended.iter().filter(|outcome| !recorded.lost.contains(&outcome.lease.job)) {
        let label = shared.labels.value(outcome.delivery.event_type.as_str());
        let status = outcome.end.status().as_str();
        metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => status)
            .increment(1);
    }
    notify_operators(shared, recorded.notices).await;
    Ok(())
}
