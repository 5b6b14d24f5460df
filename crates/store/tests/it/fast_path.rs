//! The fast path: plain successes are recorded in one statement, all of them or none.

use std::fmt::Write as _;
use std::time::Duration;

use postrider_core::{ErrorKind, Verdict};
use postrider_database::Dialect;
use postrider_queue::{Lease, LeaseToken, Rescue};
use postrider_store::PageRequest;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_testkit::TestDatabase;

use crate::stage::{Stage, on_both};

on_both!(the_fast_path_records_the_same_as_the_slow_path);

async fn stage() -> Stage {
    Stage::of(TestDatabase::postgres().await).await
}

fn outcome((lease, delivery): &(Lease, DeliveryRef), end: End) -> Outcome {
    let status = if end == End::Succeeded { 204 } else { 500 };
    let attempt = Attempt {
        started_at: delivery.created_at + Duration::from_millis(7),
        duration: Duration::from_millis(3),
        response: Some(Response {
            status,
            headers: vec![("server".into(), "test".into())],
            body: "fine".into(),
            truncated: false,
        }),
        verdict: if end == End::Succeeded {
            Verdict::Success
        } else {
            Verdict::failure(ErrorKind::Status, "HTTP 500")
        },
        exchange: None,
    };
    Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end }
}

/// Claims three deliveries to each of two subscribers.
async fn claimed(stage: &Stage) -> Vec<(Lease, DeliveryRef)> {
    for _ in 0..2 {
        let subscriber = stage.subscribe(&stage.tenant, true).await;
        for _ in 0..3 {
            stage.dispatch(&stage.tenant, subscriber, "order.created", stage.now()).await;
        }
    }
    let claimed = stage.claim().await;
    assert_eq!(claimed.len(), 6);
    claimed
}

/// Everything that recording changes, as text.
async fn snapshot(stage: &Stage, claimed: &[(Lease, DeliveryRef)]) -> String {
    let mut text = String::new();
    for (_, delivery) in claimed {
        let now = stage.store.delivery(&stage.tenant, delivery.id).await.unwrap().unwrap();
        let (status, attempts, answered) = (now.status, now.attempts, now.response_status);
        write!(text, "{status:?} {attempts} {answered:?}: ").unwrap();
        let attempts =
            stage.store.attempts(&stage.tenant, delivery.id, PageRequest::default()).await.unwrap();
        for attempt in attempts.items {
            let waited = attempt.started_at.since(delivery.created_at);
            let (number, took, status) = (attempt.number, attempt.duration, attempt.response_status);
            write!(text, "{number} {waited:?} {took:?} {status:?} {:?}, ", attempt.response_body).unwrap();
        }
    }
    let running = "SELECT CAST(coalesce(sum(running), 0) AS bigint) AS n FROM lanes";
    let stats = stage.stats().await;
    text + &format!(
        "{:?} {:?} {:?} running {}",
        stats.deliveries,
        stats.latency,
        stage.store.queue().depth().await.unwrap().running,
        stage.count(running).await
    )
}

async fn record_fast(stage: &Stage, outcomes: &[Outcome]) -> bool {
    stage.store.record_fast(&outcomes.iter().collect::<Vec<_>>()).await.unwrap()
}

async fn the_fast_path_records_the_same_as_the_slow_path(stage: &Stage) {
    let one = claimed(stage).await;
    let outcomes: Vec<_> = one.iter().map(|claimed| outcome(claimed, End::Succeeded)).collect();
    let before = snapshot(stage, &one).await;
    if stage.store.database().dialect() == Dialect::Sqlite {
        assert!(!record_fast(stage, &outcomes).await, "SQLite has no fast path");
        assert_eq!(snapshot(stage, &one).await, before);
        return;
    }
    let other = self::stage().await;
    let two = claimed(&other).await;
    let others: Vec<_> = two.iter().map(|claimed| outcome(claimed, End::Succeeded)).collect();
    other.store.record(&others, &[], &BreakerPolicy::default()).await.unwrap();

    assert!(record_fast(stage, &outcomes).await);
    let after = snapshot(stage, &one).await;
    assert_eq!(after, snapshot(&other, &two).await);
    assert!(after.contains("Succeeded 1 Some(204)") && after.contains("running 0"), "{after}");
    assert!(!record_fast(stage, &outcomes).await, "the jobs have ended");
    assert_eq!(snapshot(stage, &one).await, after, "nothing is written twice");
}

/// Checks that the fast path refuses to record these deliveries and writes nothing.
async fn assert_nothing_written(stage: &Stage, claimed: &[(Lease, DeliveryRef)]) {
    let outcomes: Vec<_> = claimed.iter().map(|claimed| outcome(claimed, End::Succeeded)).collect();
    let before = snapshot(stage, claimed).await;
    assert!(!record_fast(stage, &outcomes).await);
    assert_eq!(snapshot(stage, claimed).await, before);
}

#[tokio::test]
async fn nothing_is_written_if_a_lease_was_lost() {
    let stage = stage().await;
    let mut claimed = claimed(&stage).await;
    claimed[0].0.token = LeaseToken(stage.store.ids().next_uuid());
    assert_nothing_written(&stage, &claimed).await;
}

#[tokio::test]
async fn nothing_is_written_if_the_jobs_were_rescued() {
    let stage = stage().await;
    let claimed = claimed(&stage).await;
    stage.database.advance(Duration::from_hours(1)).await;
    let token = LeaseToken(stage.store.ids().next_uuid());
    let rescue = Rescue { max: 100, max_rescues: 5, token, lease: Duration::from_mins(1) };
    let rescued = stage.store.queue().rescue(&rescue).await.unwrap();
    assert_eq!(rescued.returned, 6);
    assert_nothing_written(&stage, &claimed).await;
}

#[tokio::test]
async fn nothing_is_written_if_a_delivery_was_cancelled() {
    let stage = stage().await;
    let claimed = claimed(&stage).await;
    stage.store.cancel(&stage.tenant, claimed[0].1.id).await.unwrap();
    assert_nothing_written(&stage, &claimed).await;
}

#[tokio::test]
async fn nothing_is_written_if_an_outcome_occurs_twice() {
    let stage = stage().await;
    let mut claimed = claimed(&stage).await;
    claimed.push(claimed[0].clone());
    assert_nothing_written(&stage, &claimed).await;
}

/// A success must reset the failures, which the fast path cannot do.
#[tokio::test]
async fn nothing_is_written_if_a_subscriber_is_failing() {
    let stage = stage().await;
    let mut claimed = claimed(&stage).await;
    let failed = outcome(&claimed.remove(0), End::RetryIn(Duration::from_secs(1)));
    stage.store.record(&[failed], &[], &BreakerPolicy::default()).await.unwrap();
    assert_nothing_written(&stage, &claimed).await;
    assert!(claimed.iter().all(|(_, delivery)| !delivery.failing), "they were loaded before the failure");

    stage.database.advance(Duration::from_mins(1)).await;
    stage.store.queue().promote(10).await.unwrap();
    let again = stage.claim().await;
    assert!(again[0].1.failing);
    assert!(!outcome(&again[0], End::Succeeded).qualifies_for_fast_path());
}
