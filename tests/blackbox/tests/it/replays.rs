//! A replay whose worker is killed, carried out by programs.

use std::collections::BTreeMap;

use postrider_testkit::{Receiver, eventually};
use serde_json::{Value, json};

use crate::client::{dispatch_with, idle, read, subscribe, text};
use crate::deployment::{DEADLINE, Deployment};

const EVENTS: usize = 1_200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_when_its_worker_is_killed() {
    // Another worker takes over soon.
    let settings = [("POSTRIDER_LEASE", "5s")];
    let mut deployment = Deployment::with(1, &settings).await;
    let receiver = Receiver::start().await;
    subscribe(&deployment.api, &receiver.url("/hook")).await;
    for _ in 0..EVENTS / 400 {
        let events: Vec<_> = (0..400).map(|n| json!({"event": "order.created", "data": {"n": n}})).collect();
        let (status, answer) = deployment.api.post("/v1/events/batch", &json!({"events": events})).await;
        assert_eq!(status, 202, "{answer}");
    }
    receiver.wait_for(EVENTS, DEADLINE).await;
    idle(&deployment.api).await;
    let (status, replay) = deployment.api.post("/v1/replays", &json!({"filter": {}, "mode": "all"})).await;
    assert_eq!(
        (status, &replay["total"], &replay["frozen"]),
        (202, &json!(EVENTS), &json!(true)),
        "{replay}"
    );
    // Dispatched since: it does not belong to the set.
    dispatch_with(&deployment.api, json!({"event": "order.paid", "data": {}})).await;
    let path = format!("/v1/replays/{}", text(&replay["id"]));
    eventually(DEADLINE, || async {
        (read(&deployment.api, &path).await["done"].as_u64().unwrap() > 0).then_some(())
    })
    .await;
    deployment.workers.remove(0).process.signal("KILL").await;
    deployment.add_worker(&settings).await;
    let done: Value = eventually(DEADLINE, || async {
        Some(read(&deployment.api, &path).await).filter(|replay| replay["status"] == "done")
    })
    .await;
    assert_eq!(
        (&done["done"], &done["failed"], &done["total"]),
        (&json!(EVENTS), &json!(0), &json!(EVENTS)),
        "{done}"
    );
    idle(&deployment.api).await;
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for request in receiver.requests() {
        *arrived.entry(request.header("webhook-id").unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(arrived.len(), EVENTS + 1);
    let again = arrived.values().filter(|times| **times >= 2).count();
    assert_eq!(again, EVENTS, "each was delivered again");
    // What was in flight when the worker was killed is delivered once more.
    let repeated: usize = arrived.values().map(|times| times.saturating_sub(2)).sum();
    assert!(repeated < EVENTS / 2, "{repeated} repeats");
    deployment.stop().await;
}
