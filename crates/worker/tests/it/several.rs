//! Several workers on one queue, each in a process of its own.

use std::time::{Duration, Instant};

use postrider_core::subscriber::PolicyFields;
use postrider_database::Config as DatabaseConfig;
use postrider_testkit::proxy::{Link, Proxy};
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Running, Stage, at_once, config};

/// Workers that have checked in one after the other.
async fn workers(stage: &Stage, count: i64, config: &Config) -> Vec<Running> {
    let mut workers = Vec::new();
    for number in 1..=count {
        workers.push(stage.worker(config.clone()).await);
        checked_in(stage, number).await;
    }
    workers
}

async fn checked_in(stage: &Stage, workers: i64) {
    eventually(DEADLINE, || async {
        (stage.count("SELECT count(*) FROM workers").await == workers).then_some(())
    })
    .await;
}

/// Cut off from the database, a worker is as good as dead, and its row stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_lanes_of_a_dead_worker_are_served_within_a_second() {
    const WORKERS: i64 = 6;
    let stage = Stage::postgres().await;
    for path in ["/a", "/b", "/c"] {
        stage.subscriber(path).await;
    }
    // Polling is no help.
    let config = Config { poll: Duration::from_secs(30), ..config() };
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        let (link, url) = Proxy::before(stage.database.url()).await;
        let worker = stage.worker_over(DatabaseConfig::new(url.parse().unwrap()), config.clone()).await;
        workers.push((link, worker));
        checked_in(&stage, number).await;
    }
    let (mut late, mut expected) = (Vec::new(), 0);
    for (link, _) in &workers[..5] {
        // The others know that the last one has died, and one of them looks for waiting lanes in short intervals.
        eventually(DEADLINE, || async {
            let awake =
                "SELECT count(*) FROM workers WHERE lapses_at > {now} AND lapses_at - seen_at <= 3000";
            let now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
            let live = format!("SELECT count(*) FROM workers WHERE lapses_at > {now}");
            let (awake, live) = (stage.count(&awake.replace("{now}", now)).await, stage.count(&live).await);
            (live == WORKERS - i64::try_from(late.len()).unwrap() && awake >= 2).then_some(())
        })
        .await;
        stage.dispatch().await;
        expected += 3;
        stage.receiver.wait_for(expected, DEADLINE).await;
        stage.settled().await;
        link.set(Link::Hanging);
        let died = Instant::now();
        stage.dispatch().await;
        expected += 3;
        stage.receiver.wait_for(expected, DEADLINE).await;
        late.push(died.elapsed());
        stage.settled().await;
    }
    println!("after a worker had died, events arrived within {late:?}");
    late.sort();
    // Most of five, because other tests run at the same time.
    assert!(late[2] < Duration::from_secs(1), "{late:?}");
    for (link, worker) in workers {
        link.set(Link::Open);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_hands_its_lanes_over() {
    let stage = Stage::postgres().await;
    stage.subscriber("/hook").await;
    let config = Config { poll: Duration::from_secs(30), ..config() };
    let mut workers = workers(&stage, 2, &config).await;
    stage.dispatch().await;
    stage.settled().await;
    workers.remove(0).stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM workers").await, 1);
    let stopped = Instant::now();
    for number in 2..5 {
        stage.dispatch().await;
        stage.receiver.wait_for(number, DEADLINE).await;
    }
    println!("the next three events arrived {:?} after the worker had stopped", stopped.elapsed());
    stage.settled().await;
    workers.remove(0).stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM workers").await, 0);
}

/// All slots of the first worker are taken by requests that take long.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_free_slots_is_helped() {
    let stage = Stage::postgres().await;
    let slow = PolicyFields { concurrency: Some(8), ..PolicyFields::default() };
    stage.subscriber_with("/slow", slow).await;
    stage.receiver.on("/slow", Behaviour::Status(200).after(Duration::from_secs(5)));
    let small = Config { concurrency: at_once(8), poll: Duration::from_secs(30), ..config() };
    let workers = workers(&stage, 2, &small).await;
    stage.dispatch_many(8).await;
    eventually(DEADLINE, || async { (stage.receiver.requests().len() >= 8).then_some(()) }).await;
    stage.subscriber("/hook").await;
    let began = Instant::now();
    stage.dispatch().await;
    let to_hook =
        || stage.receiver.requests().into_iter().filter(|request| request.path() == "/hook").count();
    eventually(DEADLINE, || async { (to_hook() == 1).then_some(()) }).await;
    let took = began.elapsed();
    println!("beside a worker whose slots are taken for 5 s, an event arrived after {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
}

/// Those who are not needed claim nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_worker_does_what_one_can_do() {
    let stage = Stage::postgres().await;
    let workers = workers(&stage, 4, &config()).await;
    let paths = ["/a", "/b", "/c", "/d", "/e"];
    let gate = Gate::closed();
    for path in paths {
        stage.subscriber(path).await;
        stage.receiver.on(path, Behaviour::Status(200).behind(&gate));
    }
    for number in 1..=4 {
        stage.dispatch().await;
        stage.receiver.wait_for(paths.len() * number, DEADLINE).await;
    }
    eventually(DEADLINE, || async {
        (stage.count("SELECT sum(in_flight)::bigint FROM workers").await == 20).then_some(())
    })
    .await;
    assert_eq!(stage.count("SELECT max(in_flight)::bigint FROM workers").await, 20, "one worker has all");
    gate.open();
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
}
