//! How soon a worker finds jobs.

use std::time::{Duration, Instant};

use postrider_core::DeliveryStatus;
use postrider_database::Config as DatabaseConfig;
use postrider_dispatch::Dispatcher;
use postrider_testkit::Behaviour;
use postrider_testkit::proxy::{Link, Proxy};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, event, on_both, retry};

on_both!(
    an_idle_worker_is_woken_by_a_dispatch,
    a_worker_without_a_wake_up_polls,
    a_retry_is_made_when_it_is_due,
);

/// Longer than any deadline here, so that nothing succeeds by waiting for it.
const LONG: Duration = Duration::from_mins(1);

/// On PostgreSQL the worker has a queue of its own, as in another process, so a notification wakes it.
async fn an_idle_worker_is_woken_by_a_dispatch(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker = stage.worker(Config { poll: LONG, ..config() }).await;
    stage.dispatch().await;
    stage.settled().await;
    let mut latencies = Vec::new();
    let began = Instant::now();
    for number in 2..12 {
        stage.dispatch().await;
        let committed = Instant::now();
        let requests = stage.receiver.wait_for(number, DEADLINE).await;
        latencies.push(requests[number - 1].arrived.saturating_duration_since(committed));
        stage.settled().await;
    }
    worker.stop().await;
    // A listener without notifications checks its connection every 20 s, and then wakes the worker.
    assert!(began.elapsed() < 5 * DEADLINE / 2, "each wake-up was prompt: {:?}", began.elapsed());
    latencies.sort_unstable();
    println!("arrived {:?} after the commit at the median, {:?} at worst", latencies[5], latencies[9]);
}

/// Far from the database, only the number of round trips counts: the event's commit, which wakes the worker, takes half of
/// one, the wake-up another half, and the claim a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_within_two_and_a_half_round_trips() {
    const ROUND_TRIP: Duration = Duration::from_millis(60);
    let stage = Stage::postgres().await;
    stage.subscriber("/one").await;
    stage.subscriber("/two").await;
    let (link, url) = Proxy::before(stage.database.url()).await;
    let far = || DatabaseConfig::new(url.parse().unwrap());
    let store = stage.store_over(far()).await;
    let dispatcher = Dispatcher::new(store, postrider_dispatch::Config::default()).unwrap();
    let worker = stage.worker_over(far(), Config { poll: LONG, ..config() }).await;
    let mut took = Vec::new();
    for number in 1..=26 {
        // The first of them prepare the statements.
        if number == 15 {
            link.set(Link::Slow(ROUND_TRIP / 2));
        }
        let began = Instant::now();
        dispatcher.dispatch(event(number)).await.unwrap();
        let acknowledged = began.elapsed();
        let requests = stage.receiver.wait_for(2 * number, DEADLINE).await;
        let arrived = requests.last().unwrap().arrived.saturating_duration_since(began);
        stage.settled().await;
        if number >= 15 {
            took.push((arrived, acknowledged));
        }
    }
    link.set(Link::Open);
    worker.stop().await;
    println!("with a round trip of {ROUND_TRIP:?}, events arrived and were acknowledged within {took:?}");
    // The best of twelve: other tests run at the same time, and a claim may wait until the worker has looked at its lanes.
    let (arrived, acknowledged) = took.into_iter().min().unwrap();
    assert!(acknowledged < ROUND_TRIP * 3 / 2, "{acknowledged:?}");
    assert!(arrived < ROUND_TRIP * 5 / 2, "{arrived:?}");
}

async fn a_worker_without_a_wake_up_polls(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker = stage.worker(Config { poll: Duration::from_secs(1), ..config() }).await;
    stage.dispatch().await;
    stage.settled().await;
    let transaction = stage.store.database().begin().await.unwrap();
    stage.dispatcher.dispatch_in(&transaction, event(1)).await.unwrap();
    transaction.commit().await.unwrap();
    // Without a wake-up.
    let committed = Instant::now();
    let requests = stage.receiver.wait_for(2, DEADLINE).await;
    let latency = requests[1].arrived.saturating_duration_since(committed);
    worker.stop().await;
    println!("found after {latency:?} with a poll interval of 1 s");
}

async fn a_retry_is_made_when_it_is_due(stage: &Stage) {
    const DELAY: Duration = Duration::from_millis(500);
    const PROMPT: Duration = Duration::from_millis(100);
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::sequence([500, 500, 500, 500, 500, 200]));
    let worker = stage.worker(Config { poll: LONG, retry: retry(&[500], 6), ..config() }).await;
    let dispatched = stage.dispatch().await.id;
    assert_eq!(stage.ended(dispatched).await.status, DeliveryStatus::Succeeded);
    worker.stop().await;
    let requests = stage.receiver.requests();
    let late = requests
        .windows(2)
        .map(|pair| (pair[1].arrived - pair[0].arrived).checked_sub(DELAY).expect("not before it is due"));
    let late: Vec<Duration> = late.collect();
    println!("retries came {late:?} after they were due, including the answer and its record");
    // The best of five, because other tests run at the same time.
    assert!(late.iter().min().is_some_and(|best| *best < PROMPT), "{late:?}");
}
