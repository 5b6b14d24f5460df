//! Jobs on SQS. Without moto these tests print that they are skipped.

use std::time::Duration;

// Built with what the programs do not have by default.
use postrider_program as _;
use postrider_testkit::moto::Moto;
use postrider_testkit::{Behaviour, Receiver, TestDatabase, eventually};
use serde_json::json;

use crate::client::{dispatch, dispatch_with, idle, subscribe_with};
use crate::deployment::{DEADLINE, Deployment, program};
use crate::redis::{all_succeed, number};

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_receivers_through_sqs() {
    let Some(mut moto) = Moto::with_queues("postrider") else { return };
    let url = moto.url("postrider");
    // With two, moto would not keep the order.
    let deployment = Deployment::with(1, &[("POSTRIDER_QUEUE_URL", &url), KEYS[0], KEYS[1]]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/flaky", Behaviour::sequence([503, 503, 200]));
    receiver.on("/ordered", Behaviour::sequence([200, 503, 200]));
    let retried = json!({"schedule": ["200ms"], "max_attempts": 5});
    let ordered = json!({"schedule": ["200ms"], "max_attempts": 5, "ordered": true});
    subscribe_with(api, json!({"url": receiver.url("/hook"), "events": ["order.*"]})).await;
    subscribe_with(api, json!({"url": receiver.url("/flaky"), "events": ["flaky"], "policy": retried})).await;
    subscribe_with(api, json!({"url": receiver.url("/ordered"), "events": ["step"], "policy": ordered}))
        .await;
    for _ in 0..30 {
        dispatch(api, "order.created").await;
    }
    dispatch(api, "flaky").await;
    for step in 0..5 {
        dispatch_with(api, json!({"event": "step", "data": {"step": step}})).await;
    }
    receiver.wait_for_path("/hook", 30, DEADLINE).await;
    receiver.wait_for_path("/flaky", 3, DEADLINE).await;
    let requests = receiver.wait_for_path("/ordered", 6, DEADLINE).await;
    let steps: Vec<_> =
        requests.iter().map(|request| request.json()["data"]["step"].as_i64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 1, 2, 3, 4]);
    all_succeed(&deployment).await;
    idle(api).await;
    assert_eq!(receiver.requests().len(), 30 + 3 + 6);
    let left = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM jobs) + (SELECT count(*) FROM taken_jobs)";
    eventually(DEADLINE, || async { (number(&deployment.database, left).await == 0).then_some(()) }).await;

    // While SQS is away events are accepted. Its queues are deleted and created again, and the database fills them.
    moto.kill();
    dispatch(api, "order.created").await;
    eventually(DEADLINE, || async {
        let (status, _) = deployment.workers[0].telemetry.get("/readyz").await;
        (status == 503).then_some(())
    })
    .await;
    moto.restart();
    moto.make_queues("postrider");
    receiver.wait_for_path("/hook", 31, DEADLINE).await;
    all_succeed(&deployment).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_on_sqs_that_cannot_be_used_is_named() {
    let Some(moto) = Moto::start() else { return };
    let database = TestDatabase::postgres().await;
    let (missing, away) = (moto.url("nowhere"), "sqs://eu-west-1/a?endpoint=http://127.0.0.1:1".to_owned());
    for (url, complaint) in [
        (missing, "there is no queue \"nowhere\""),
        (away, "cannot reach SQS"),
        ("sqs://eu-west-1/a?fifi=b".to_owned(), "unknown parameter"),
    ] {
        let variables = [("POSTRIDER_QUEUE_URL", url.as_str()), KEYS[0], KEYS[1]];
        let mut process = program("postrider-worker", database.url(), &variables).start();
        let status = process.wait(DEADLINE + Duration::from_secs(5)).await;
        let errors = process.stderr().join("\n");
        assert!(!status.success() && errors.contains(complaint), "{url}: {errors}");
        assert!(!errors.contains("secret-of-the-test"), "{errors}");
    }
}
