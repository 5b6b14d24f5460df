use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{dispatch, ended, idle, list, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::signature::verify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_delivered_again_or_deleted() {
    let settings = [("POSTRIDER_MAX_ATTEMPTS", "1"), ("POSTRIDER_BREAKER_FAILURES", "0")];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::Status(500));
    let body = json!({"url": receiver.url("/hook"), "events": ["a", "b"]});
    let subscriber = subscribe_with(api, body).await;
    let mut events = Vec::new();
    for event in ["a", "a", "b", "b"] {
        events.push(dispatch(api, event).await);
    }
    idle(api).await;
    let dead = list(api, "/v1/dead-letters").await;
    assert_eq!(dead.len(), 4);
    assert_eq!(list(api, "/v1/dead-letters?event=b").await, dead[..2], "newest first");

    // While the receiver is broken they die again; another tenant's call touches none of them.
    let other = api.clone().with_header("x-tenant-id", "other");
    let none = (202, json!({"requeued": 0, "without_payload": 0, "more": false}));
    assert_eq!(other.post("/v1/dead-letters/requeue", &json!({"all": true})).await, none);
    assert_eq!(api.post("/v1/dead-letters/requeue", &json!({"event": "c"})).await, none);
    let one = json!({"ids": [dead[3]["id"]]});
    assert_eq!(
        api.post("/v1/dead-letters/requeue", &one).await,
        (202, json!({"requeued": 1, "without_payload": 0, "more": false}))
    );
    idle(api).await;
    assert_eq!((list(api, "/v1/dead-letters").await.len(), receiver.requests().len()), (4, 5));

    let path = format!("/v1/dead-letters/{}", text(&dead[3]["id"]));
    assert_eq!(
        (other.delete(&path).await.0, api.delete(&path).await.0, api.delete(&path).await.0),
        (404, 204, 404)
    );
    assert_eq!(api.get(&format!("/v1/deliveries/{}", text(&dead[3]["id"]))).await.0, 404);

    receiver.on("/hook", Behaviour::Status(200));
    let of_b = json!({"subscriber_id": subscriber["id"], "event": "b"});
    assert_eq!(api.post("/v1/dead-letters/requeue", &of_b).await.1["requeued"], 2);
    idle(api).await;
    assert_eq!(list(api, "/v1/dead-letters").await, dead[2..3]);
    let recover = format!("/v1/subscribers/{}/recover", text(&subscriber["id"]));
    assert_eq!(api.post(&recover, &json!({"since": 4_000_000_000_i64.to_string()})).await, none);
    let since = json!({"since": dead[3]["created_at"]});
    assert_eq!(
        api.post(&recover, &since).await,
        (202, json!({"requeued": 1, "without_payload": 0, "more": false}))
    );
    idle(api).await;
    assert_eq!(list(api, "/v1/dead-letters").await, Vec::<Value>::new());

    for event in &events[1..] {
        let delivery = ended(api, event).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("succeeded"), &json!(2)),
            "{delivery}"
        );
    }
    let stats = read(api, "/v1/stats").await["deliveries"].take();
    assert_eq!((&stats["succeeded"], &stats["pending"]), (&json!(3), &json!(0)), "{stats}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_is_a_real_delivery_to_one_subscriber() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url("/tested"), "events": ["nothing.that.comes"]});
    let subscriber = subscribe_with(api, body).await;
    subscribe_with(api, json!({"url": receiver.url("/other"), "events": ["*"]})).await;
    let path = format!("/v1/subscribers/{}", text(&subscriber["id"]));
    let (status, event) = api.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!((status, &event["subscriber_ids"]), (202, &json!([subscriber["id"]])), "{event}");
    let request = receiver.wait_for(1, DEADLINE).await.remove(0);
    assert_eq!((request.path(), request.header("webhook-id")), ("/tested", event["id"].as_str()));
    verify(&request, &[text(&subscriber["secret"])]);
    assert_eq!(ended(api, &event).await["status"], "succeeded");

    assert_eq!(api.post(&format!("{path}/deactivate"), &json!({})).await.0, 200);
    assert_eq!(api.post(&format!("{path}/test"), &json!({})).await.0, 409);
    deployment.stop().await;
    assert_eq!(receiver.requests().len(), 1);
}
