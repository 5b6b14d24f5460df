//! Large payloads: shared by the deliveries of an event, bounded, and never in the way of small ones.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider_core::DeliveryStatus;
use postrider_core::subscriber::PolicyFields;
use postrider_database::Config as DatabaseConfig;
use postrider_dispatch::NewEvent;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, TestDatabase, eventually};
use postrider_worker::Config;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::stage::{DEADLINE, Stage, config, on_both, tenant};

on_both!(
    large_payloads_arrive_unchanged,
    large_payloads_that_wait_leave_worker_slots_to_small_ones,
    a_delivery_cancelled_while_its_payload_waits_is_not_sent,
    a_worker_that_stops_gives_back_the_jobs_that_wait,
);

const MIB: usize = 1024 * 1024;

fn large(bytes: usize) -> NewEvent {
    NewEvent::new("order.large", &json!({"text": "é".repeat(bytes / 2)})).unwrap()
}

/// The least memory, so that one payload of 1 MiB fills it.
fn little_memory(concurrency: u32) -> Config {
    let concurrency = NonZeroU32::new(concurrency).unwrap();
    Config { payload_memory: MIB, concurrency, ..config() }
}

async fn large_payloads_arrive_unchanged(stage: &Stage) {
    for path in ["/a", "/b", "/c"] {
        stage.subscriber(path).await;
    }
    let worker = stage.worker(little_memory(64)).await;
    // Below and above the size from which they are loaded separately, and one that is larger than the memory.
    for bytes in [100, 16_000, 17_000, 300_000, 300_000, 2 * MIB, 300_000] {
        stage.dispatcher.dispatch(large(bytes)).await.unwrap();
    }
    let requests = stage.receiver.wait_for(7 * 3, DEADLINE).await;
    stage.settled().await;
    worker.stop().await;
    let mut lengths: Vec<_> = requests.iter().map(|request| request.body.len() / 1000).collect();
    lengths.sort_unstable();
    assert_eq!(lengths[..6], [0, 0, 0, 16, 16, 16]);
    assert_eq!(lengths[18..], [2097, 2097, 2097]);
    for request in requests {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert!(body["data"]["text"].as_str().unwrap().chars().all(|character| character == 'é'));
    }
}

async fn large_payloads_that_wait_leave_worker_slots_to_small_ones(stage: &Stage) {
    let gate = Gate::closed();
    for number in 0..4 {
        let path = format!("/large/{number}");
        stage.receiver.on(&path, Behaviour::Status(200).behind(&gate));
        let mut new = stage.new_subscriber(&path);
        new.events = vec!["order.large".parse().unwrap()];
        stage.store.create_subscriber(&tenant(), new).await.unwrap();
    }
    let mut new = stage.new_subscriber("/small");
    new.events = vec!["order.created".parse().unwrap()];
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
    for _ in 0..16 {
        stage.dispatcher.dispatch(large(600_000)).await.unwrap();
    }
    // Far fewer slots than large deliveries.
    let worker = stage.worker(little_memory(16)).await;
    stage.receiver.wait_for(1, DEADLINE).await;
    let small = stage.dispatch_many(40).await;
    for event in small {
        assert_eq!(stage.ended(event.id).await.status, DeliveryStatus::Succeeded);
    }
    let requests = stage.receiver.requests();
    assert!(
        requests.iter().filter(|request| request.target != "/small").count() <= 4,
        "one payload at a time"
    );
    gate.open();
    stage.receiver.wait_for(40 + 16 * 4, DEADLINE).await;
    stage.settled().await;
    worker.stop().await;
}

async fn a_delivery_cancelled_while_its_payload_waits_is_not_sent(stage: &Stage) {
    let gate = Gate::closed();
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let policy = PolicyFields::default();
    stage.subscriber_with("/hook", policy).await;
    let worker = stage.worker(little_memory(16)).await;
    stage.dispatcher.dispatch(large(MIB - 1000)).await.unwrap();
    stage.receiver.wait_for(1, DEADLINE).await;
    let waiting = stage.dispatcher.dispatch(large(MIB - 1000)).await.unwrap();
    eventually(DEADLINE, || async {
        (stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await == 2).then_some(())
    })
    .await;
    let delivery = stage.delivery(waiting.id).await;
    stage.store.cancel(&tenant(), delivery.id).await.unwrap();
    // Long enough that the job is loaded again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    gate.open();
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests().len(), 1);
    assert_eq!(stage.delivery(waiting.id).await.status, DeliveryStatus::Cancelled);
}

async fn a_worker_that_stops_gives_back_the_jobs_that_wait(stage: &Stage) {
    stage.receiver.on("/hook", Behaviour::Hang);
    stage.subscriber("/hook").await;
    for _ in 0..3 {
        stage.dispatcher.dispatch(large(MIB - 1000)).await.unwrap();
    }
    let worker = stage.worker(Config { shutdown_grace: Duration::ZERO, ..little_memory(16) }).await;
    stage.receiver.wait_for(1, DEADLINE).await;
    worker.stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM deliveries WHERE attempts > 0").await, 0);
    stage.no_lane_is_running().await;
}

/// Reading one payload takes longer than a statement may, as a very large one does over a slow link.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_takes_too_long_to_read_holds_up_no_other() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    stage.subscriber("/hook").await;
    let slow = stage.dispatcher.dispatch(large(100_000)).await.unwrap().id.uuid();
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(stage.dispatcher.dispatch(large(100_000)).await.unwrap().id);
    }
    let sql = format!(
        "ALTER TABLE events RENAME TO stored_events;
        CREATE FUNCTION read(event uuid, envelope bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN
            IF event = '{slow}' AND current_query() LIKE '%SELECT events.id, events.envelope%' THEN
                PERFORM pg_sleep(60);
            END IF;
            RETURN envelope;
        END $$;
        CREATE VIEW events AS SELECT id, tenant, event_type, agent_id, read(id, envelope) AS envelope,
            subscribers_found, dispatched_at, payload_gone FROM stored_events"
    );
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    let database = DatabaseConfig {
        answer_timeout: Duration::from_millis(1500),
        ..DatabaseConfig::new(stage.database.url().parse().unwrap())
    };
    let worker = stage.worker_over(database, config()).await;
    for event in others {
        assert_eq!(stage.ended(event).await.status, DeliveryStatus::Succeeded);
    }
    worker.stop().await;
}
