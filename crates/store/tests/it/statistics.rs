//! Totals agree with what happened to deliveries.

use std::time::Duration;

use postrider_core::{DeadReason, TenantId};
use postrider_store::attempt::{End, Outcome};
use postrider_store::deliveries::Changed;
use postrider_store::health::BreakerPolicy;
use postrider_store::stats::{DeliveryStats, StatsFilter};
use postrider_testkit::TestDatabase;

use crate::stage::{Stage, on_both};

on_both!(
    an_empty_database_has_zero_counts,
    a_pending_delivery_is_not_a_failure,
    every_end_is_counted_with_its_attempts,
    a_retried_delivery_counts_as_pending_again,
    a_cancelled_delivery_stays_cancelled_whatever_the_outcome,
    a_lost_lease_counts_nothing,
    counts_can_be_filtered_by_subscriber_event_type_and_time,
    tenants_are_apart,
    latency_measures_the_first_attempt_only,
    concurrent_outcomes_are_all_counted,
    folding_changes_no_count,
    folding_during_writes_loses_no_count,
);

async fn an_empty_database_has_zero_counts(stage: &Stage) {
    let stats = stage.stats().await;
    assert_eq!((stats.subscribers.total, stats.subscribers.active), (0, 0));
    assert_eq!(stats.deliveries, DeliveryStats::default());
    assert_eq!(stats.latency.p50, None);
}

async fn a_pending_delivery_is_not_a_failure(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.subscribe(&stage.tenant, false).await;
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let fresh = DeliveryStats { total: 1, pending: 1, ..DeliveryStats::default() };
    assert_eq!(stage.stats().await.deliveries, fresh);

    // A failed attempt with another one to follow is not a failure either, and neither is an attempt in flight.
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    assert_eq!(stage.stats().await.deliveries, fresh);
    let claimed = stage.claim().await;
    assert_eq!(stage.stats().await.deliveries, fresh);
    stage.release(claimed[0].0).await;
    let stats = stage.stats().await;
    assert_eq!(stats.deliveries, fresh);
    assert_eq!((stats.subscribers.total, stats.subscribers.active), (2, 1));
}

async fn every_end_is_counted_with_its_attempts(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let dispatch = async || stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let retry = End::RetryIn(Duration::from_secs(1));

    // Succeeds with the first attempt.
    dispatch().await;
    stage.attempt(End::Succeeded).await;
    // Succeeds with the third attempt.
    dispatch().await;
    for end in [retry, retry, End::Succeeded] {
        stage.attempt(end).await;
    }
    // Dead after two attempts.
    dispatch().await;
    stage.attempt(retry).await;
    stage.attempt(End::Dead(DeadReason::AttemptsUsedUp)).await;
    // Dead without an attempt, because its worker died too often.
    dispatch().await;
    let claimed = stage.claim().await;
    stage.record_untried(claimed[0].0, &claimed[0].1, End::Dead(DeadReason::RescuedTooOften)).await;
    // Cancelled by the worker without an attempt.
    dispatch().await;
    let claimed = stage.claim().await;
    stage.record_untried(claimed[0].0, &claimed[0].1, End::Cancelled).await;
    // Cancelled by a request after one attempt.
    let cancelled = dispatch().await;
    stage.attempt(retry).await;
    let changed = stage.store.cancel(&stage.tenant, cancelled).await.unwrap();
    assert!(matches!(changed, Changed::Done(_)), "{changed:?}");
    // Still pending.
    dispatch().await;

    let expected = DeliveryStats {
        total: 7,
        pending: 1,
        succeeded: 2,
        dead: 2,
        cancelled: 2,
        // (1 + 3 + 2 + 0 + 0 + 1) attempts of the six deliveries that ended.
        avg_attempts: Some(7.0 / 6.0),
        // Two of the four that succeeded or died.
        success_rate: Some(0.5),
    };
    assert_eq!(stage.stats().await.deliveries, expected);
}

async fn a_retried_delivery_counts_as_pending_again(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let delivery = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    stage.attempt(End::Dead(DeadReason::AttemptsUsedUp)).await;
    let dead = stage.stats().await.deliveries;
    assert_eq!((dead.dead, dead.pending, dead.avg_attempts, dead.success_rate), (1, 0, Some(2.0), Some(0.0)));

    assert!(matches!(stage.store.retry(&stage.tenant, delivery).await.unwrap(), Changed::Done(_)));
    let pending = stage.stats().await.deliveries;
    assert_eq!(pending, DeliveryStats { total: 1, pending: 1, ..DeliveryStats::default() });
    // A second retry changes nothing.
    assert!(matches!(stage.store.retry(&stage.tenant, delivery).await.unwrap(), Changed::Not(_)));
    assert_eq!(stage.stats().await.deliveries, pending);

    stage.attempt(End::Succeeded).await;
    let stats = stage.stats().await.deliveries;
    assert_eq!((stats.total, stats.pending, stats.succeeded, stats.dead), (1, 0, 1, 0));
    assert_eq!((stats.avg_attempts, stats.success_rate), (Some(3.0), Some(1.0)));
}

async fn a_cancelled_delivery_stays_cancelled_whatever_the_outcome(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for end in [End::Succeeded, End::Dead(DeadReason::AttemptsUsedUp), End::RetryIn(Duration::from_secs(1))] {
        let delivery = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
        let claimed = stage.claim().await;
        assert!(matches!(stage.store.cancel(&stage.tenant, delivery).await.unwrap(), Changed::Done(_)));
        assert!(matches!(stage.store.cancel(&stage.tenant, delivery).await.unwrap(), Changed::Not(_)));
        stage.record(claimed[0].0, &claimed[0].1, Duration::ZERO, end).await;
    }
    let stats = stage.stats().await.deliveries;
    assert_eq!((stats.total, stats.pending, stats.succeeded, stats.dead, stats.cancelled), (3, 0, 0, 0, 3));
    assert_eq!(stats.success_rate, None);
}

async fn a_lost_lease_counts_nothing(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let lost = stage.claim().await;
    stage.release(lost[0].0).await;
    let current = stage.claim().await;
    let recorded = stage.record(lost[0].0, &lost[0].1, Duration::ZERO, End::Succeeded).await;
    assert_eq!(recorded.lost, [lost[0].0.job]);
    let stats = stage.stats().await;
    assert_eq!((stats.deliveries.pending, stats.deliveries.succeeded), (1, 0));
    assert_eq!(stats.latency.p50, None);
    stage.record(current[0].0, &current[0].1, Duration::ZERO, End::Succeeded).await;
    assert_eq!(stage.stats().await.deliveries.succeeded, 1);
}

async fn counts_can_be_filtered_by_subscriber_event_type_and_time(stage: &Stage) {
    let (one, other) =
        (stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await);
    let now = stage.now();
    let hour_ago = now - Duration::from_hours(1);
    for (subscriber, event, at) in
        [(one, "a.b", hour_ago), (one, "a.c", now), (other, "a.b", now), (other, "a.b", now)]
    {
        stage.dispatch(&stage.tenant, subscriber, event, at).await;
        if subscriber == one {
            stage.attempt(End::Succeeded).await;
        } else {
            stage.attempt(End::Dead(DeadReason::AttemptsUsedUp)).await;
        }
    }
    let filter = |subscriber, event: Option<&str>, since| StatsFilter {
        subscriber,
        event_type: event.map(|event| event.parse().unwrap()),
        since,
    };
    let minutes_ago = now - Duration::from_mins(10);
    for (filter, total, succeeded, dead) in [
        (filter(None, None, None), 4, 2, 2),
        (filter(Some(one), None, None), 2, 2, 0),
        (filter(Some(other), None, None), 2, 0, 2),
        (filter(None, Some("a.b"), None), 3, 1, 2),
        (filter(None, Some("a"), None), 0, 0, 0),
        (filter(None, None, Some(minutes_ago)), 3, 1, 2),
        // An outcome counts at the time at which its delivery was created.
        (filter(Some(one), None, Some(minutes_ago)), 1, 1, 0),
        (filter(Some(one), None, Some(hour_ago)), 2, 2, 0),
        // What is counted by the day counts from the beginning of the day.
        (filter(Some(one), Some("a.c"), Some(now)), 1, 1, 0),
        (filter(Some(one), Some("a.b"), Some(hour_ago)), 1, 1, 0),
        (filter(Some(one), Some("a.b"), Some(now + Duration::from_hours(25))), 0, 0, 0),
        (filter(None, None, Some(now + Duration::from_mins(2))), 0, 0, 0),
    ] {
        let found = stage.deliveries(&filter).await;
        assert_eq!((found.total, found.succeeded, found.dead), (total, succeeded, dead), "{filter:?}");
        assert_eq!(found.pending, 0, "{filter:?}");
    }
    let latency = stage.store.stats(&stage.tenant, &filter(None, Some("a"), Some(minutes_ago))).await;
    assert_eq!(latency.unwrap().latency.p50, None);
}

async fn tenants_are_apart(stage: &Stage) {
    let other: TenantId = "other".parse().unwrap();
    let subscriber = stage.subscribe(&other, true).await;
    let delivery = stage.dispatch(&other, subscriber, "a.b", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    let stats = stage.stats().await;
    assert_eq!((stats.subscribers.total, stats.deliveries.total, stats.latency.p50), (0, 0, None));
    let named = StatsFilter { subscriber: Some(subscriber), ..StatsFilter::default() };
    assert_eq!(stage.deliveries(&named).await.total, 0, "another tenant's subscriber");
    assert!(matches!(stage.store.retry(&stage.tenant, delivery).await.unwrap(), Changed::Missing));
    let theirs = stage.store.stats(&other, &named).await.unwrap();
    assert_eq!((theirs.deliveries.succeeded, theirs.subscribers.total), (1, 1));
}

async fn latency_measures_the_first_attempt_only(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    // Ten deliveries that waited 1 to 10 ms.
    for waited in 1..=10 {
        stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
        let claimed = stage.claim().await;
        let waited = Duration::from_millis(waited);
        stage.record(claimed[0].0, &claimed[0].1, waited, End::RetryIn(Duration::from_secs(1))).await;
    }
    let before = stage.stats().await.latency;
    assert_eq!((before.p50, before.p95, before.p99), (Some(5), Some(10), Some(10)));
    // Their second attempts, hours later, do not count.
    stage.database.advance(Duration::from_hours(1)).await;
    stage.store.queue().promote(100).await.unwrap();
    for (lease, delivery) in stage.claim().await {
        stage.record(lease, &delivery, Duration::from_hours(2), End::Succeeded).await;
    }
    let stats = stage.stats().await;
    assert_eq!((stats.latency, stats.deliveries.succeeded), (before, 10));
}

async fn concurrent_outcomes_are_all_counted(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    // All in one minute, so that all add to the same rows.
    let now = stage.now();
    for _ in 0..40 {
        stage.dispatch(&stage.tenant, subscriber, "a.b", now).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    // A lane without its own limit runs 32 jobs at once.
    let mut claimed = stage.claim().await;
    assert_eq!(claimed.len(), 32);
    for (lease, delivery) in claimed.drain(..) {
        let store = stage.store.clone();
        tasks.spawn(async move {
            let outcome = Outcome { lease, delivery, attempt: None, end: End::Cancelled };
            store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let stats = stage.stats().await.deliveries;
    assert_eq!((stats.total, stats.cancelled, stats.pending), (40, 32, 8));
}

async fn folding_changes_no_count(stage: &Stage) {
    let (one, other) =
        (stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await);
    let now = stage.now();
    let ages = [0, 600, 5_000, 20_000, 20_060, 100_000, 400_000, 400_100, 1_000_000, 10_000_000];
    let mut last = None;
    for (n, age) in ages.into_iter().enumerate() {
        let subscriber = if n % 2 == 0 { one } else { other };
        let at = now - Duration::from_secs(age);
        let delivery = stage.dispatch(&stage.tenant, subscriber, "a.b", at).await;
        let claimed = stage.claim().await;
        let waited = Duration::from_millis(10 * n as u64);
        let end = if n % 3 == 0 { End::Dead(DeadReason::AttemptsUsedUp) } else { End::Succeeded };
        stage.record(claimed[0].0, &claimed[0].1, waited, end).await;
        last = Some(delivery);
    }
    let filters = || {
        let subscribers = [None, Some(one), Some(other)];
        // The filter selects the same rows before and after folding, whether or not the moment is the beginning of a row.
        let since = [None, Some(now - Duration::from_secs(700)), Some(now - Duration::from_hours(7 * 24))];
        subscribers.into_iter().flat_map(move |subscriber| {
            since.into_iter().map(move |since| StatsFilter { subscriber, event_type: None, since })
        })
    };
    let mut before = Vec::new();
    for filter in filters() {
        before.push(stage.store.stats(&stage.tenant, &filter).await.unwrap());
    }
    assert_eq!(before[0].deliveries.total, 10);
    assert!(stage.store.fold_statistics().await.unwrap().deltas > 0);
    for (filter, before) in filters().zip(&before) {
        assert_eq!(&stage.store.stats(&stage.tenant, &filter).await.unwrap(), before, "{filter:?}");
    }
    assert_eq!(stage.store.fold_statistics().await.unwrap().deltas, 0, "nothing is left to fold");

    // An old delivery, whose row has been folded, is retried and ends.
    let last = last.expect("a delivery");
    assert!(matches!(stage.store.retry(&stage.tenant, last).await.unwrap(), Changed::Done(_)));
    assert_eq!((stage.stats().await.deliveries.pending, stage.stats().await.deliveries.dead), (1, 3));
    stage.store.fold_statistics().await.unwrap();
    stage.attempt(End::Succeeded).await;
    stage.store.fold_statistics().await.unwrap();
    let stats = stage.stats().await.deliveries;
    assert_eq!((stats.total, stats.pending, stats.succeeded, stats.dead), (10, 0, 7, 3));
}

async fn folding_during_writes_loses_no_count(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = stage.now() - Duration::from_secs(20_000);
    let store = stage.store.clone();
    let folding = tokio::spawn(async move {
        loop {
            store.fold_statistics().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for n in 0..100 {
        stage.dispatch(&stage.tenant, subscriber, "a.b", old + Duration::from_secs(n)).await;
    }
    folding.abort();
    let _ = folding.await;
    stage.store.fold_statistics().await.unwrap();
    let stats = stage.stats().await.deliveries;
    assert_eq!((stats.total, stats.pending), (100, 100));
}

/// Each transaction locks the roll-up rows that it adds to until it ends.
#[tokio::test]
async fn overlapping_transactions_do_not_wait_for_each_other() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let (tenant, now) = (&stage.tenant, stage.now());
    let first = stage.store.database().begin().await.unwrap();
    stage.dispatch_in(&first, tenant, subscriber, "a.b", now).await;
    let second = stage.store.database().begin().await.unwrap();
    stage.dispatch_in(&second, tenant, subscriber, "a.b", now).await;
    second.commit().await.unwrap();
    // PostgreSQL ends idle transactions. Had the second waited for the first, this commit would fail.
    first.commit().await.unwrap();
    assert_eq!(stage.stats().await.deliveries.total, 2);
}
