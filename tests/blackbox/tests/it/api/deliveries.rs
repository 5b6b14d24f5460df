use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{
    attempts, delivery_of, dispatch, ended, idle, list, read, subscribe, subscribe_with, text,
};
use crate::deployment::Deployment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_filtered_and_paged() {
    let settings = [("POSTRIDER_MAX_ATTEMPTS", "1")];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/bad", Behaviour::Status(418));
    let all = subscribe(api, &receiver.url("/good")).await;
    let bad = subscribe_with(api, json!({"url": receiver.url("/bad"), "events": ["b"]})).await;
    let (a, b) = (dispatch(api, "a").await, dispatch(api, "b").await);
    idle(api).await;

    let tomorrow = a["timestamp"].as_i64().unwrap() + 86_400;
    let [all, bad] = [text(&all["id"]), text(&bad["id"])];
    for (query, count) in [
        (String::new(), 3),
        ("status=succeeded".to_owned(), 2),
        ("status=dead".to_owned(), 1),
        ("status=pending".to_owned(), 0),
        ("response_code=418".to_owned(), 1),
        ("response_code=200&event=b".to_owned(), 1),
        (format!("subscriber_id={all}"), 2),
        (format!("subscriber_id={bad}&event=a"), 0),
        (format!("event_id={}", text(&b["id"])), 2),
        (format!("since={tomorrow}"), 0),
        (format!("until={tomorrow}"), 3),
    ] {
        assert_eq!(list(api, &format!("/v1/deliveries?{query}")).await.len(), count, "{query}");
    }
    let whole = list(api, "/v1/deliveries").await;
    let first = read(api, "/v1/deliveries?limit=2").await;
    let next = format!("/v1/deliveries?limit=2&cursor={}", text(&first["next_cursor"]));
    let second = read(api, &next).await;
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(
        [first["data"].as_array().unwrap().as_slice(), second["data"].as_array().unwrap()].concat(),
        whole
    );

    let stats = read(api, &format!("/v1/stats?subscriber_id={bad}")).await;
    assert_eq!(stats["subscribers"], json!({"total": 2, "active": 2}));
    assert_eq!((&stats["deliveries"]["total"], &stats["deliveries"]["dead"]), (&json!(1), &json!(1)));
    assert_eq!(stats["deliveries"]["success_rate"], 0.0);
    let stats = read(api, "/v1/stats").await;
    assert_eq!((&stats["deliveries"]["total"], &stats["deliveries"]["succeeded"]), (&json!(3), &json!(2)));
    assert!(stats["latency_ms"]["p50"].as_u64() <= stats["latency_ms"]["p99"].as_u64());
    assert!(stats["latency_ms"]["p99"].is_u64(), "{stats}");
    deployment.stop().await;
}

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
    // One that has ended well is delivered again, too.
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
