//! Workers that are told to stop.

use std::time::{Duration, Instant};

use postrider_core::DeliveryStatus;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, on_both};

on_both!(
    requests_in_flight_end_within_the_grace_and_are_recorded,
    what_hangs_goes_back_unspent_and_another_worker_has_it,
    an_idle_worker_stops_at_once,
);

async fn requests_in_flight_end_within_the_grace_and_are_recorded(stage: &Stage) {
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
    assert_eq!(stage.count("SELECT count(*) FROM jobs").await, 0);
    stage.no_lane_is_running().await;
}

async fn what_hangs_goes_back_unspent_and_another_worker_has_it(stage: &Stage) {
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Hang);
    let grace = Duration::from_millis(300);
    let worker = stage.worker(Config { shutdown_grace: grace, ..config() }).await;
    let events = stage.dispatch_many(5).await;
    stage.receiver.wait_for(5, DEADLINE).await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() >= grace, "it was given its grace");
    for event in &events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 0));
        assert!(stage.attempts(&delivery).await.is_empty());
    }
    assert_eq!(stage.count("SELECT count(*) FROM jobs WHERE state = 0 AND lease_token IS NULL").await, 5);
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
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
