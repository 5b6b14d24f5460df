//! What a worker does about an event whose payload was erased.

use postrider_core::DeliveryStatus;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, on_both, retry, tenant};

on_both!(a_worker_ends_the_deliveries_of_an_erased_event_and_erases_their_responses,);

async fn a_worker_ends_the_deliveries_of_an_erased_event_and_erases_their_responses(stage: &Stage) {
    stage.receiver.on("/hook", Behaviour::Status(500));
    stage.subscriber("/hook").await;
    let worker = stage.worker(Config { retry: retry(&[3_600_000], 5), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.attempted(event, 1).await;
    let attempts = stage.attempts(&delivery).await;
    assert!(!attempts[0].response_headers.is_empty());
    assert!(stage.store.erase_payload(&tenant(), event).await.unwrap());
    let delivery = stage.ended(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Cancelled, 1));
    eventually(DEADLINE, || async {
        let attempts = stage.attempts(&delivery).await;
        attempts[0].response_headers.is_empty().then_some(())
    })
    .await;
    assert_eq!(stage.receiver.requests_to("/hook").len(), 1);
    worker.stop().await;
}
