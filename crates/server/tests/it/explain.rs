//! Explaining which subscribers got an event.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::TestServer;
use crate::keys::{acme, made};

async fn create(server: &TestServer, fields: Value) -> String {
    let mut body = json!({"url": "https://receiver.invalid/hook", "events": ["order.*"]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (status, subscriber) = server.api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{subscriber}");
    subscriber["id"].as_str().unwrap().to_owned()
}

/// The reason and what it describes, for each subscriber.
fn reason<'a>(explained: &'a Value, subscriber: &str) -> (&'a str, &'a str) {
    let all = explained["data"].as_array().unwrap();
    let one = all.iter().find(|one| one["subscriber_id"] == subscriber).unwrap();
    assert_eq!(one["matched"], json!(one["reason"] == "matched"), "{one}");
    (one["reason"].as_str().unwrap(), one["as_of"].as_str().unwrap())
}

#[tokio::test]
async fn each_subscriber_has_its_reason_as_of_the_event() {
    let server = TestServer::start().await;
    let got = create(&server, json!({"filter": "data.total > 100"})).await;
    let inactive = create(&server, json!({"active": false})).await;
    let pattern = create(&server, json!({"events": ["invoice.*"]})).await;
    let channel = create(&server, json!({"channels": ["us"]})).await;
    let filter = create(&server, json!({"filter": "data.total > 200"})).await;
    let event = json!({"event": "order.paid", "data": {"total": 150}, "channels": ["eu"]});
    let (status, event) = server.api.post("/v1/events", &event).await;
    assert_eq!(status, 202, "{event}");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let later = create(&server, json!({})).await;
    // What they are now does not matter.
    let change = json!({"events": ["order.*"], "channels": null, "filter": null});
    for subscriber in [&got, &inactive, &pattern, &channel, &filter] {
        let path = format!("/v1/subscribers/{subscriber}");
        assert_eq!(server.api.patch(&path, &change).await.0, 200);
    }
    assert_eq!(server.api.post(&format!("/v1/subscribers/{inactive}/activate"), &json!({})).await.0, 200);
    assert_eq!(server.api.post(&format!("/v1/subscribers/{got}/deactivate"), &json!({})).await.0, 200);

    let path = format!("/v1/events/{}/explain", event["id"].as_str().unwrap());
    let (status, explained) = server.api.get(&path).await;
    assert_eq!(status, 200, "{explained}");
    for (subscriber, expected) in [
        (&got, "matched"),
        (&inactive, "inactive"),
        (&pattern, "pattern"),
        (&channel, "channel"),
        (&filter, "filter"),
        (&later, "created_later"),
    ] {
        assert_eq!(reason(&explained, subscriber), (expected, "event"), "{explained}");
    }
    let first = &explained["data"][5];
    assert_eq!(first["url"], "https://receiver.invalid/hook");
    assert!(first["delivery_id"].as_str().unwrap().starts_with("dlv_"), "{first}");

    let (_, page) = server.api.get(&format!("{path}?limit=4")).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 4);
    let next = format!("{path}?limit=4&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(server.api.get(&next).await.1["data"].as_array().unwrap().len(), 2);
    let (_, one) = server.api.get(&format!("{path}?subscriber_id={filter}")).await;
    assert_eq!((one["data"].as_array().unwrap().len(), reason(&one, &filter)), (1, ("filter", "event")));

    // The filter cannot be asked again, but nothing else is left that could have been the reason.
    let erased = format!("/v1/events/{}/payload", event["id"].as_str().unwrap());
    assert_eq!(server.api.delete(&erased).await.0, 204);
    assert_eq!(reason(&server.api.get(&path).await.1, &filter), ("filter", "event"));
}

#[tokio::test]
async fn without_a_version_the_present_is_described() {
    let server = TestServer::start().await;
    let subscriber = create(&server, json!({"filter": "data.n > 5"})).await;
    let event = server.event("order.paid").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let change = json!({"filter": "data.n > 6"});
    assert_eq!(server.api.patch(&format!("/v1/subscribers/{subscriber}"), &change).await.0, 200);
    let path = format!("/v1/events/{}/explain", event["id"].as_str().unwrap());
    assert_eq!(reason(&server.api.get(&path).await.1, &subscriber), ("filter", "event"));
    let forever = postrider_store::retention::Age::Forever;
    let now = postrider_store::retention::Age::For(Duration::ZERO);
    let gone = postrider_store::retention::Retention { history: forever, payloads: forever, dead: now };
    server.store.remove_old_versions(gone).await.unwrap();
    assert_eq!(reason(&server.api.get(&path).await.1, &subscriber), ("filter", "now"));
    let change = json!({"filter": "data.n == 1"});
    assert_eq!(server.api.patch(&format!("/v1/subscribers/{subscriber}"), &change).await.0, 200);
    server.store.remove_old_versions(gone).await.unwrap();
    assert_eq!(reason(&server.api.get(&path).await.1, &subscriber), ("matched", "now"));
    // It would say something about the payload.
    let key = json!({"name": "n", "tenant": "default", "scopes": ["events:read", "subscribers:read"]});
    let (reader, _) = made(&server, &server.api, &key).await;
    assert_eq!(reason(&reader.get(&path).await.1, &subscriber), ("filter", "now"));
}

#[tokio::test]
async fn a_test_event_asks_one_subscriber() {
    let server = TestServer::start().await;
    let asked = create(&server, json!({})).await;
    let other = create(&server, json!({"events": ["*"]})).await;
    let (status, event) = server.api.post(&format!("/v1/subscribers/{asked}/test"), &json!({})).await;
    assert_eq!(status, 202, "{event}");
    let path = format!("/v1/events/{}/explain", event["id"].as_str().unwrap());
    let (_, explained) = server.api.get(&path).await;
    assert_eq!(reason(&explained, &asked), ("matched", "event"));
    assert_eq!(reason(&explained, &other), ("not_asked", "event"));
    let (foreign, _) = made(&server, &server.api, &acme(&["events:read", "subscribers:read"])).await;
    assert_eq!(foreign.get(&path).await.0, 404);
}
