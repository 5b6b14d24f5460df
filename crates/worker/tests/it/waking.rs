//! How soon a worker notices.

use std::time::{Duration, Instant};

use postrider_core::DeliveryStatus;
use postrider_testkit::Behaviour;
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, event, on_both, retry};

on_both!(
    an_idle_worker_is_woken_by_a_dispatch,
    a_worker_that_heard_nothing_looks_by_itself,
    a_retry_comes_when_it_is_due,
);

/// So long that no test waits for it.
const LONG: Duration = Duration::from_mins(1);

async fn an_idle_worker_is_woken_by_a_dispatch(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker = stage.worker(Config { poll: LONG, ..config() }).await;
    stage.dispatch().await;
    stage.settled().await;
    let mut worst = Duration::ZERO;
    for number in 2..12 {
        let dispatched = Instant::now();
        stage.dispatch().await;
        let committed = Instant::now();
        let requests = stage.receiver.wait_for(number, DEADLINE).await;
        let latency = requests[number - 1].arrived.saturating_duration_since(committed);
        println!("arrived {latency:?} after its commit, which took {:?}", committed - dispatched);
        worst = worst.max(latency);
        stage.settled().await;
    }
    worker.stop().await;
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

async fn a_worker_that_heard_nothing_looks_by_itself(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker = stage.worker(Config { poll: Duration::from_secs(1), ..config() }).await;
    stage.dispatch().await;
    stage.settled().await;
    let transaction = stage.store.database().begin().await.unwrap();
    stage.dispatcher.dispatch_in(&transaction, event(1)).await.unwrap();
    transaction.commit().await.unwrap();
    // And nobody is told.
    let committed = Instant::now();
    let requests = stage.receiver.wait_for(2, DEADLINE).await;
    let latency = requests[1].arrived.saturating_duration_since(committed);
    worker.stop().await;
    println!("found after {latency:?} with a poll interval of 1 s");
    assert!(latency < Duration::from_secs(3), "{latency:?}");
}

async fn a_retry_comes_when_it_is_due(stage: &Stage) {
    const DELAY: Duration = Duration::from_millis(500);
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::sequence([500, 500, 500, 200]));
    let worker = stage.worker(Config { poll: LONG, retry: retry(&[500], 6), ..config() }).await;
    let dispatched = stage.dispatch().await.id;
    assert_eq!(stage.ended(dispatched).await.status, DeliveryStatus::Succeeded);
    worker.stop().await;
    let requests = stage.receiver.requests();
    for pair in requests.windows(2) {
        let late = (pair[1].arrived - pair[0].arrived).checked_sub(DELAY).expect("never early");
        println!("a retry came {late:?} after it was due, its answer's way and record included");
        assert!(late < Duration::from_secs(2), "{late:?}");
    }
}
