//! What attempts sent, where to, and how long their phases took.

use std::time::Duration;

use postrider_core::{DeliveryId, ErrorKind, Verdict};
use postrider_queue::Lease;
use postrider_store::PageRequest;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::deliveries::RecordedAttempt;
use postrider_store::exchange::Exchange;
use postrider_store::health::BreakerPolicy;
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, exchange, on_both};

on_both!(
    an_exchange_is_read_as_it_was_recorded,
    an_exchange_is_erased_with_its_response,
    an_exchange_of_a_newer_version_is_left_out,
);

fn attempt(delivery: &DeliveryRef, success: bool, exchange: Option<Box<Exchange>>) -> Attempt {
    let response = Response { status: 200, headers: Vec::new(), body: "ok".into(), truncated: false };
    Attempt {
        started_at: delivery.created_at,
        duration: Duration::from_millis(3),
        response: success.then_some(response),
        verdict: if success { Verdict::Success } else { Verdict::failure(ErrorKind::Reset, "closed") },
        exchange,
    }
}

async fn record(stage: &Stage, (lease, delivery): &(Lease, DeliveryRef), attempt: Attempt) {
    let end =
        if attempt.verdict.is_success() { End::Succeeded } else { End::RetryIn(Duration::from_secs(1)) };
    let outcome = Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end };
    if outcome.qualifies_for_fast_path() && stage.store.record_fast(&[&outcome]).await.unwrap() {
        return;
    }
    let recorded = stage.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
    assert!(recorded.lost.is_empty());
}

async fn dispatched(stage: &Stage) -> (DeliveryId, (Lease, DeliveryRef)) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    (id, stage.claim().await.into_iter().next().unwrap())
}

async fn attempts(stage: &Stage, delivery: DeliveryId) -> Vec<RecordedAttempt> {
    stage.store.attempts(&stage.tenant, delivery, PageRequest::default()).await.unwrap().items
}

/// A delivery with a failed attempt and a successful one, which both have a row; and one with a success in its own row.
async fn three_attempts(stage: &Stage) -> [DeliveryId; 2] {
    let (failed, held) = dispatched(stage).await;
    record(stage, &held, attempt(&held.1, false, Some(exchange(true)))).await;
    stage.database.advance(Duration::from_mins(1)).await;
    stage.store.queue().promote(10).await.unwrap();
    let held = stage.claim().await.into_iter().next().unwrap();
    record(stage, &held, attempt(&held.1, true, Some(exchange(false)))).await;
    let (at_once, held) = dispatched(stage).await;
    record(stage, &held, attempt(&held.1, true, Some(exchange(true)))).await;
    assert_eq!(stage.count("SELECT count(*) AS n FROM attempts").await, 2);
    [failed, at_once]
}

async fn an_exchange_is_read_as_it_was_recorded(stage: &Stage) {
    let [failed, at_once] = three_attempts(stage).await;
    let read: Vec<_> = [attempts(stage, failed).await, attempts(stage, at_once).await].concat();
    let read: Vec<_> = read.into_iter().map(|one| (one.exchange.map(Box::new), one.resent)).collect();
    assert_eq!(read, [false, true, true].map(|resent| (Some(exchange(resent)), resent)));

    let (none, held) = dispatched(stage).await;
    record(stage, &held, attempt(&held.1, true, None)).await;
    let read = attempts(stage, none).await;
    assert_eq!((&read[0].exchange, read[0].resent), (&None, false));
}

async fn an_exchange_is_erased_with_its_response(stage: &Stage) {
    let [failed, at_once] = three_attempts(stage).await;
    for id in [failed, at_once] {
        assert!(stage.store.erase_payload(&stage.tenant, id.event()).await.unwrap());
    }
    while stage.store.erase_responses(100).await.unwrap().is_some() {}
    for (id, resent) in [(failed, &[false, true][..]), (at_once, &[true])] {
        let read = attempts(stage, id).await;
        assert!(read.iter().all(|one| one.exchange.is_none()), "{read:?}");
        assert_eq!(read.iter().map(|one| one.resent).collect::<Vec<_>>(), resent);
    }
}

async fn an_exchange_of_a_newer_version_is_left_out(stage: &Stage) {
    let [failed, _] = three_attempts(stage).await;
    let newer = match stage.database.connection().get_database_backend() {
        sea_orm::DbBackend::Postgres => "'\\xff01'",
        _ => "x'ff01'",
    };
    let sql = format!("UPDATE attempts SET exchange = {newer}");
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    let read = attempts(stage, failed).await;
    assert_eq!(
        read.iter().map(|one| (one.number, &one.exchange)).collect::<Vec<_>>(),
        [(2, &None), (1, &None)]
    );
}
