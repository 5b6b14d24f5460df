//! Events with many subscribers.

use std::collections::BTreeMap;

use postrider_core::{DeliveryStatus, EventId};
use postrider_store::fan_out::FannedOut;
use postrider_store::intake::Everyone;
use postrider_store::subscribers::SubscriberChange;
use postrider_testkit::eventually;
use sea_orm::TransactionTrait as _;

use crate::stage::{DEADLINE, Stage, config, event, on_both, tenant};

on_both!(a_worker_continues_the_fan_out_of_a_process_that_died);

const SUBSCRIBERS: usize = 120;

async fn a_worker_continues_the_fan_out_of_a_process_that_died(stage: &Stage) {
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        subscribers.push(stage.subscriber(&format!("/{number}")).await);
    }
    // It has committed the event and one step, and does not go on.
    let transaction = stage.database.connection().begin().await.unwrap();
    let dispatched = stage.dispatcher.dispatch_in(&transaction, event(0)).await.unwrap();
    transaction.commit().await.unwrap();
    let step = stage.store.fan_out(None, 30, &Everyone).await.unwrap();
    assert!(matches!(step, FannedOut::Step(step) if step.jobs == 30 && !step.complete));
    let off = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    for inactive in [10, 100] {
        stage.store.change_subscriber(&tenant(), subscribers[inactive], off.clone()).await.unwrap().unwrap();
    }

    let worker = stage.worker(config()).await;
    eventually(DEADLINE, || async {
        let ended = count(stage, dispatched.id, DeliveryStatus::Succeeded).await
            + count(stage, dispatched.id, DeliveryStatus::Cancelled).await;
        (ended == SUBSCRIBERS).then_some(())
    })
    .await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(count(stage, dispatched.id, DeliveryStatus::Cancelled).await, 2);
    let mut requests: BTreeMap<String, usize> = BTreeMap::new();
    for request in stage.receiver.requests() {
        *requests.entry(request.path().to_owned()).or_default() += 1;
    }
    assert_eq!(requests.len(), SUBSCRIBERS - 2);
    assert!(requests.values().all(|count| *count == 1), "{requests:?}");
    assert!(!requests.contains_key("/10") && !requests.contains_key("/100"));
}

async fn count(stage: &Stage, event: EventId, status: DeliveryStatus) -> usize {
    let deliveries = stage.deliveries(event).await;
    deliveries.iter().filter(|delivery| delivery.status == status).count()
}
