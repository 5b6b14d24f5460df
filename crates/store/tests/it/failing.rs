//! Claimed deliveries whose attempts end as a test says.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider_core::{Clock as _, ErrorKind, Verdict};
use postrider_queue::{Claim, Lease, LeaseToken};
use postrider_store::Store;
use postrider_store::attempt::DeliveryRef;
use postrider_store::attempt::{Attempt, End, Outcome};
use postrider_store::health::{BreakerPolicy, Notice};
use postrider_store::loading::Loaded;

pub(crate) type Claimed = Vec<(Lease, DeliveryRef)>;

/// Longer than any pause of a breaker; who is to be tried again after it is not, unless a test promotes it.
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Well,
    Badly(ErrorKind),
}

/// Claims up to so many, and sees that there is something to deliver of each.
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

/// What came of these, all in the same way and after so long.
pub(crate) fn outcomes(claimed: Claimed, way: Way, duration: Duration) -> Vec<Outcome> {
    let (verdict, end) = match way {
        Way::Well => (Verdict::Success, End::Succeeded),
        Way::Badly(kind) => (Verdict::failure(kind, "why it failed"), End::RetryIn(HOUR)),
    };
    let outcome = |(lease, delivery)| Outcome {
        lease,
        delivery,
        attempt: Some(Attempt {
            started_at: postrider_core::SystemClock.now(),
            duration,
            response: None,
            verdict: verdict.clone(),
        }),
        end,
    };
    claimed.into_iter().map(outcome).collect()
}

/// Records attempts that took a moment; what there is to tell of it.
pub(crate) async fn record(store: &Store, claimed: Claimed, way: Way) -> Vec<Notice> {
    assert!(!claimed.is_empty(), "there is something to record");
    let outcomes = outcomes(claimed, way, Duration::from_millis(1));
    let recorded = store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
    assert!(recorded.lost.is_empty());
    recorded.notices
}

pub(crate) async fn fail(store: &Store, claimed: Claimed) -> Vec<Notice> {
    record(store, claimed, Way::Badly(ErrorKind::Status)).await
}

pub(crate) async fn succeed(store: &Store, claimed: Claimed) -> Vec<Notice> {
    record(store, claimed, Way::Well).await
}
