use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{attempts, delivery_of, dispatch, ended, list, subscribe_with, text};
use crate::deployment::Deployment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_delivery_is_retried_and_a_pending_one_cancelled() {
    let settings = [("POSTRIDER_MAX_ATTEMPTS", "2"), ("POSTRIDER_RETRY_SCHEDULE", "50ms")];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::sequence([500, 500, 500, 200]));
    subscribe_with(api, json!({"url": receiver.url("/hook"), "events": ["a"]})).await;
    let event = dispatch(api, "a").await;
    let dead = ended(api, &event).await;
    assert_eq!((&dead["status"], &dead["attempts"]), (&json!("dead"), &json!(2)));

    // A new round, on the full schedule.
    let path = format!("/v1/deliveries/{}", text(&dead["id"]));
    let (status, pending) = api.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((status, &pending["status"]), (202, &json!("pending")), "{pending}");
    let delivery = ended(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(4)), "{delivery}");
    assert_eq!(delivery["dead_reason"], Value::Null);
    let numbers: Vec<_> =
        attempts(api, &delivery).await.iter().map(|attempt| attempt["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let requests = receiver.requests();
    assert!(requests.iter().all(|request| request.header("webhook-id") == Some(text(&event["id"]))));
    assert_eq!(list(api, "/v1/dead-letters").await, Vec::<Value>::new());
    assert_eq!(api.post(&format!("{path}/cancel"), &json!({})).await.0, 409, "it has ended");

    receiver.on("/slow", Behaviour::Status(500));
    let body = json!({"url": receiver.url("/slow"), "events": ["b"], "policy": {"schedule": ["1h"]}});
    subscribe_with(api, body).await;
    let event = dispatch(api, "b").await;
    receiver.wait_for_path("/slow", 1, crate::deployment::DEADLINE).await;
    let path = format!("/v1/deliveries/{}", text(&delivery_of(api, &event).await["id"]));
    let (status, problem) = api.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 409, "it is pending: {problem}");
    let (status, cancelled) = api.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")), "{cancelled}");
    assert_eq!(api.post(&format!("{path}/cancel"), &json!({})).await.0, 409, "it is cancelled");
    deployment.stop().await;
    assert_eq!(receiver.requests_to("/slow").len(), 1);
}
