//! What the receiver of a subscriber with an open breaker gets.

use std::time::Duration;

use postrider_core::subscriber::PolicyFields;
use postrider_core::{DeliveryStatus, SubscriberId};
use postrider_store::health::{Breaker, BreakerPolicy, Health};
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, on_both, retry, tenant};

on_both!(an_open_breaker_stops_all_workers);

async fn health(stage: &Stage, subscriber: SubscriberId) -> Health {
    stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap().health
}

/// Waits until the subscriber has failed this often and its breaker is open.
async fn open_after(stage: &Stage, subscriber: SubscriberId, failures: u32) {
    eventually(DEADLINE, || async {
        let health = health(stage, subscriber).await;
        (health.failures == failures && matches!(health.breaker, Breaker::Open(_))).then_some(())
    })
    .await;
    assert_eq!(stage.receiver.requests().len(), failures as usize, "no further request");
}

async fn an_open_breaker_stops_all_workers(stage: &Stage) {
    const EVENTS: u32 = 15;
    // One at a time, so that nothing else is in flight when the breaker opens.
    let one_at_a_time = PolicyFields { concurrency: Some(1), ..PolicyFields::default() };
    let subscriber = stage.subscriber_with("/hook", one_at_a_time).await;
    stage.receiver.on("/hook", Behaviour::Status(500));
    // Second attempts are due after all the pauses.
    let breaker = BreakerPolicy::default();
    let config = Config { breaker, retry: retry(&[600_000], 2), ..config() };
    let workers = [stage.worker(config.clone()).await, stage.worker(config).await];
    let events = stage.dispatch_many(EVENTS as usize).await;
    open_after(stage, subscriber, 10).await;
    for (pause, failures) in [(30, 11), (60, 12)] {
        stage.database.advance(Duration::from_secs(pause)).await;
        open_after(stage, subscriber, failures).await;
    }
    stage.receiver.on("/hook", Behaviour::Status(200));
    stage.database.advance(Duration::from_mins(2)).await;
    // The probe succeeds, and the waiting deliveries follow.
    stage.receiver.wait_for(EVENTS as usize, DEADLINE).await;
    eventually(DEADLINE, || async {
        let succeeded = stage.count("SELECT count(*) FROM deliveries WHERE status = 1").await;
        (succeeded == 3).then_some(())
    })
    .await;
    assert_eq!(health(stage, subscriber).await, Health::default());

    stage.database.advance(Duration::from_mins(10)).await;
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    let mut attempts = Vec::new();
    for event in events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!(delivery.status, DeliveryStatus::Succeeded);
        attempts.push(delivery.attempts);
    }
    attempts.sort_unstable();
    assert_eq!(attempts, [vec![1; 3], vec![2; 12]].concat(), "waiting deliveries spend no attempts");
}
