//! API calls that many tests make.

use postrider_testkit::{Api, eventually};
use serde_json::{Value, json};

use crate::deployment::DEADLINE;

/// Creates a subscriber of all events at `url`, and returns the answer.
pub(crate) async fn subscribe(api: &Api, url: &str) -> Value {
    subscribe_with(api, json!({"url": url, "events": ["*"]})).await
}

/// Creates a subscriber, and returns the answer.
pub(crate) async fn subscribe_with(api: &Api, body: Value) -> Value {
    let (status, subscriber) = api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{subscriber}");
    subscriber
}

/// Dispatches an event of this type, and returns the answer.
pub(crate) async fn dispatch(api: &Api, event: &str) -> Value {
    dispatch_with(api, json!({"event": event, "data": {"order": 1}})).await
}

/// Dispatches an event, and returns the answer.
pub(crate) async fn dispatch_with(api: &Api, body: Value) -> Value {
    let (status, dispatched) = api.post("/v1/events", &body).await;
    assert_eq!(status, 202, "{dispatched}");
    dispatched
}

/// The answer to a request that must succeed.
pub(crate) async fn read(api: &Api, path: &str) -> Value {
    let (status, answer) = api.get(path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// The items on the first page of a list.
pub(crate) async fn list(api: &Api, path: &str) -> Vec<Value> {
    let Value::Array(items) = read(api, path).await["data"].take() else { panic!("{path} is not a list") };
    items
}

/// The only delivery of an event.
pub(crate) async fn delivery_of(api: &Api, event: &Value) -> Value {
    let mut deliveries = list(api, &format!("/v1/deliveries?event_id={}", text(&event["id"]))).await;
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.remove(0)
}

/// The only delivery of an event, once it is no longer pending.
pub(crate) async fn ended(api: &Api, event: &Value) -> Value {
    eventually(DEADLINE, || async {
        Some(delivery_of(api, event).await).filter(|delivery| delivery["status"] != "pending")
    })
    .await
}

/// The attempts of a delivery.
pub(crate) async fn attempts(api: &Api, delivery: &Value) -> Vec<Value> {
    let newest_first = list(api, &format!("/v1/deliveries/{}/attempts", text(&delivery["id"]))).await;
    newest_first.into_iter().rev().collect()
}

/// Waits until no job is left.
pub(crate) async fn idle(api: &Api) {
    // Jobs may wait in a lane whose breaker is open, which lasts a minute.
    eventually(2 * DEADLINE, || async {
        let queue = &read(api, "/v1/stats").await["queue"];
        ["ready", "scheduled", "held", "running"].iter().all(|state| queue[state] == 0).then_some(())
    })
    .await;
}

/// The fields that a problem names.
pub(crate) fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| text(&error["field"])).collect()
}

/// A string in an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
