//! Attempts at claimed deliveries, with the ending that a test chooses.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider_core::{Clock as _, ErrorKind, Verdict};
use postrider_queue::{Claim, Lease, LeaseToken};
use postrider_store::Store;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::health::{BreakerPolicy, Notice};
use postrider_store::loading::Loaded;

pub(crate) type Claimed = Vec<(Lease, DeliveryRef)>;

/// Longer than any pause of a breaker. A retry after it stays scheduled unless a test promotes it.
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Success,
    Failure(ErrorKind),
}

/// Claims up to `max` jobs and loads their deliveries, all of which must be due.
pub(crate) async fn claim(store: &Store, max: u32) -> Claimed {
    let token = LeaseToken(store.ids().next_uuid());
    let lane_concurrency = NonZeroU32::new(100).unwrap();
    let asked = Claim { lane_concurrency, ..Claim::new(token, max, 24 * HOUR) };
    let claimed = store.queue().claim(&asked).await.unwrap();
    let loaded = store.load(&claimed.jobs).await.unwrap();
    let deliveries = claimed.jobs.iter().zip(loaded).map(|(job, loaded)| match loaded {
        Loaded::Deliver(work) => (job.lease, work.delivery),
        other => panic!("{other:?}"),
    });
    deliveries.collect()
}

/// An outcome for each delivery, all with the same ending and duration.
pub(crate) fn outcomes(claimed: Claimed, ending: Ending, duration: Duration) -> Vec<Outcome> {
    let (verdict, end) = match ending {
        Ending::Success => (Verdict::Success, End::Succeeded),
        Ending::Failure(kind) => (Verdict::failure(kind, "why it failed"), End::RetryIn(HOUR)),
    };
    let response = Response { status: 200, headers: Vec::new(), body: "".into(), truncated: false };
    let outcome = |(lease, delivery)| Outcome {
        lease,
        delivery,
        attempt: Some(Attempt {
            started_at: postrider_core::SystemClock.now(),
            duration,
            response: verdict.is_success().then(|| response.clone()),
            verdict: verdict.clone(),
            exchange: None,
        }),
        end,
    };
    claimed.into_iter().map(outcome).collect()
}

/// Records attempts that took a millisecond. Returns the notices for operators.
pub(crate) async fn record(store: &Store, claimed: Claimed, ending: Ending) -> Vec<Notice> {
    assert!(!claimed.is_empty(), "a test must record something");
    let outcomes = outcomes(claimed, ending, Duration::from_millis(1));
    let recorded = store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
    assert!(recorded.lost.is_empty());
    recorded.notices
}

pub(crate) async fn fail(store: &Store, claimed: Claimed) -> Vec<Notice> {
    record(store, claimed, Ending::Failure(ErrorKind::Status)).await
}

pub(crate) async fn succeed(store: &Store, claimed: Claimed) -> Vec<Notice> {
    record(store, claimed, Ending::Success).await
}
