//! Changes between two attempts, which apply from the next attempt.

use std::time::Duration;

use postrider_core::signing::Verifier;
use postrider_core::{Clock as _, DeliveryStatus, EventId, Secret, SubscriberId, SystemClock};
use postrider_store::subscribers::{Rotated, SubscriberChange};
use postrider_testkit::Behaviour;
use postrider_testkit::receiver::Gate;
use postrider_worker::Config;

use crate::stage::{DEADLINE, Running, Stage, config, on_both, retry, tenant};

const NEW_SECRET: &str = "another secret altogether";

on_both!(
    a_new_url_and_secret_apply_from_the_next_attempt,
    a_deactivated_subscriber_gets_no_further_attempt,
    a_deleted_subscriber_gets_no_further_attempt,
    a_cancelled_delivery_gets_no_further_attempt,
    a_failure_after_a_deactivation_cancels_the_delivery,
    a_failure_after_a_deletion_cancels_the_delivery,
    a_delivery_cancelled_in_flight_stays_cancelled,
);

/// A delivery whose first attempt has failed and whose next one is due in five minutes.
async fn failed_once(stage: &Stage) -> (SubscriberId, EventId, Running) {
    let subscriber = stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::sequence([500, 200]));
    let worker = stage.worker(Config { retry: retry(&[300_000], 3), ..config() }).await;
    let event = stage.dispatch().await.id;
    stage.attempted(event, 1).await;
    (subscriber, event, worker)
}

async fn five_minutes_pass(stage: &Stage) {
    stage.database.advance(Duration::from_secs(301)).await;
}

async fn a_new_url_and_secret_apply_from_the_next_attempt(stage: &Stage) {
    let (subscriber, event, worker) = failed_once(stage).await;
    let url = Some(stage.receiver.url("/new").parse().unwrap());
    let change = SubscriberChange { url, ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    let secret = Secret::parse(NEW_SECRET).unwrap();
    let rotated = stage.store.rotate_secret(&tenant(), subscriber, &secret, Duration::ZERO).await.unwrap();
    assert!(matches!(rotated, Rotated::Done(_)));
    five_minutes_pass(stage).await;
    let request = stage.receiver.wait_for_path("/new", 1, DEADLINE).await.remove(0);
    assert_eq!(stage.ended(event).await.status, DeliveryStatus::Succeeded);
    worker.stop().await;
    assert_eq!(stage.receiver.requests_to("/hook").len(), 1);
    let verifier = Verifier::new(NEW_SECRET).unwrap();
    verifier.verify(|name| request.header(name), &request.body, SystemClock.now()).unwrap();
    verifier.verify_agent(request.header("x-agent-signature").unwrap(), &request.body).unwrap();
}

async fn a_deactivated_subscriber_gets_no_further_attempt(stage: &Stage) {
    let (subscriber, event, worker) = failed_once(stage).await;
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    five_minutes_pass(stage).await;
    ends_cancelled(stage, event, worker).await;
}

async fn a_deleted_subscriber_gets_no_further_attempt(stage: &Stage) {
    let (subscriber, event, worker) = failed_once(stage).await;
    assert!(stage.store.delete_subscriber(&tenant(), subscriber).await.unwrap());
    five_minutes_pass(stage).await;
    ends_cancelled(stage, event, worker).await;
}

async fn a_cancelled_delivery_gets_no_further_attempt(stage: &Stage) {
    let (_, event, worker) = failed_once(stage).await;
    let delivery = stage.delivery(event).await;
    stage.store.cancel(&tenant(), delivery.id).await.unwrap();
    five_minutes_pass(stage).await;
    ends_cancelled(stage, event, worker).await;
}

/// A request in flight that will fail. The next attempt would be due in five minutes.
async fn failing_in_flight(stage: &Stage) -> (SubscriberId, EventId, Running, Gate) {
    let gate = Gate::closed();
    let subscriber = stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(500).behind(&gate));
    let worker = stage.worker(Config { retry: retry(&[300_000], 3), ..config() }).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    (subscriber, event, worker, gate)
}

async fn a_failure_after_a_deactivation_cancels_the_delivery(stage: &Stage) {
    let (subscriber, event, worker, gate) = failing_in_flight(stage).await;
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    gate.open();
    ends_cancelled(stage, event, worker).await;
}

async fn a_failure_after_a_deletion_cancels_the_delivery(stage: &Stage) {
    let (subscriber, event, worker, gate) = failing_in_flight(stage).await;
    assert!(stage.store.delete_subscriber(&tenant(), subscriber).await.unwrap());
    gate.open();
    ends_cancelled(stage, event, worker).await;
}

async fn ends_cancelled(stage: &Stage, event: EventId, worker: Running) {
    stage.settled().await;
    worker.stop().await;
    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Cancelled, 1));
    assert!(delivery.ended_at.is_some() && delivery.next_attempt_at.is_none());
    assert_eq!(stage.attempts(&delivery).await.len(), 1);
    assert_eq!(stage.receiver.requests().len(), 1, "no further request");
}

async fn a_delivery_cancelled_in_flight_stays_cancelled(stage: &Stage) {
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let worker = stage.worker(config()).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    stage.store.cancel(&tenant(), stage.delivery(event).await.id).await.unwrap();
    gate.open();
    stage.settled().await;
    worker.stop().await;
    let delivery = stage.delivery(event).await;
    assert_eq!(delivery.status, DeliveryStatus::Cancelled);
    assert_eq!(stage.attempts(&delivery).await.len(), 1, "the attempt is stored");
    assert_eq!(stage.receiver.requests().len(), 1);
    let stats = stage.store.stats(&tenant(), &postrider_store::stats::StatsFilter::default()).await.unwrap();
    let counted = stats.deliveries;
    assert_eq!((counted.total, counted.cancelled, counted.succeeded, counted.pending), (1, 1, 0, 0));
}
