//! Stopping workers.

use std::time::{Duration, Instant};

use postrider_core::DeliveryStatus;
use postrider_core::subscriber::PolicyFields;
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, Receiver, eventually};
use postrider_worker::Config;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use crate::stage::{DEADLINE, Stage, at_once, config, on_both, tenant};

on_both!(
    requests_in_flight_end_within_the_grace_period_and_are_recorded,
    a_hanging_request_is_given_back_without_spending_an_attempt,
    an_idle_worker_stops_at_once,
);

async fn requests_in_flight_end_within_the_grace_period_and_are_recorded(stage: &Stage) {
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let worker = stage.worker(Config { shutdown_grace: DEADLINE, ..config() }).await;
    let events = stage.dispatch_many(5).await;
    stage.receiver.wait_for(5, DEADLINE).await;
    worker.stop.cancel();
    gate.open();
    worker.stopped().await;
    for event in events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    }
    assert_eq!(
        stage.count("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs)").await,
        0
    );
    stage.no_lane_is_running().await;
}

async fn a_hanging_request_is_given_back_without_spending_an_attempt(stage: &Stage) {
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Hang);
    let grace = Duration::from_millis(300);
    let worker = stage.worker(Config { shutdown_grace: grace, ..config() }).await;
    let events = stage.dispatch_many(5).await;
    stage.receiver.wait_for(5, DEADLINE).await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() >= grace, "it waited for the grace period");
    for event in &events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 0));
        assert!(stage.attempts(&delivery).await.is_empty());
    }
    assert_eq!(stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NULL").await, 5);
    stage.no_lane_is_running().await;

    stage.receiver.on("/hook", Behaviour::Status(200));
    let another = stage.worker(config()).await;
    stage.settled().await;
    another.stop().await;
    for event in events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    }
}

/// There are more outcomes than the recorder's channel holds, and none can be recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_record_still_stops() {
    const EVENTS: i64 = 1500;
    let stage = Stage::postgres().await;
    // Nothing listens at this address any more, so that all attempts end at once.
    let gone = Receiver::start().await.url("/hook").parse().unwrap();
    let policy = PolicyFields { concurrency: Some(2000), ..PolicyFields::default() };
    let new =
        NewSubscriber { url: gone, policy: policy.try_into().unwrap(), ..stage.new_subscriber("/hook") };
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
    for _ in 0..3 {
        stage.dispatch_many(500).await;
    }
    // Claiming and loading do not use this table.
    let locked = stage.database.connection().begin().await.unwrap();
    locked.execute_unprepared("LOCK TABLE attempts").await.unwrap();
    let grace = Duration::from_millis(200);
    let worker = stage.worker(Config { concurrency: at_once(2000), shutdown_grace: grace, ..config() }).await;
    let running = "SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL";
    eventually(DEADLINE, || async { (stage.count(running).await == EVENTS).then_some(()) }).await;
    // The recorder must wait for the table before the worker stops, or it could still release jobs without outcomes.
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(DEADLINE, || async { (stage.count(blocked).await > 0).then_some(()) }).await;
    worker.stop().await;
    locked.rollback().await.unwrap();
    assert_eq!(stage.count("SELECT count(*) FROM attempts").await, 0);
    assert_eq!(stage.count(running).await, EVENTS, "still leased; rescued when the leases expire");
}

async fn an_idle_worker_stops_at_once(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker =
        stage.worker(Config { poll: Duration::from_mins(1), shutdown_grace: DEADLINE, ..config() }).await;
    let event = stage.dispatch().await.id;
    eventually(DEADLINE, || async {
        (stage.delivery(event).await.status == DeliveryStatus::Succeeded).then_some(())
    })
    .await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
