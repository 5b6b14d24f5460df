//! Erasing the payload of an event through the API.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::api::TestServer;

#[tokio::test]
async fn an_erased_event_has_no_data() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    let id = server.event("a").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/events/{id}");
    let (_, before) = server.api.get(&path).await;
    assert_eq!((&before["data"], before.get("payload")), (&json!({"n": 1}), None));
    let unknown = "/v1/events/evt_01h455vb4pex5vsknk084sn02q/payload";
    assert_eq!(server.api.delete(unknown).await.0, 404);
    let other = server.api.clone().with_header("x-tenant-id", "other");
    assert_eq!(other.delete(&format!("{path}/payload")).await.0, 404);
    assert_eq!(server.api.get(&path).await, (200, before.clone()));
    for _ in 0..2 {
        assert_eq!(server.api.delete(&format!("{path}/payload")).await.0, 204);
        let (status, after) = server.api.get(&path).await;
        assert_eq!((status, &after["data"], &after["payload"]), (200, &json!(null), &json!("erased")));
        assert_eq!(after["id"], before["id"]);
    }
}

#[tokio::test]
async fn a_delivery_of_an_erased_event_cannot_be_retried() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    let id = server.event("a").await["id"].as_str().unwrap().to_owned();
    let dead = "UPDATE deliveries SET status = 2, died_at = 1, dead_reason = 1, ended_at = 1";
    server.database.connection().execute_unprepared(dead).await.unwrap();
    assert_eq!(server.api.delete(&format!("/v1/events/{id}/payload")).await.0, 204);
    let (_, page) = server.api.get("/v1/dead-letters").await;
    let delivery = page["data"][0]["id"].as_str().unwrap();
    let (status, problem) = server.api.post(&format!("/v1/deliveries/{delivery}/retry"), &json!({})).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("payload"), "{problem}");
    let answer = json!({"requeued": 0, "without_payload": 1, "more": false});
    assert_eq!(server.api.post("/v1/dead-letters/requeue", &json!({"all": true})).await, (202, answer));
}

#[tokio::test]
async fn an_event_whose_payload_has_expired_says_so() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    let id = server.event("a").await["id"].as_str().unwrap().to_owned();
    let expire =
        "UPDATE deliveries SET status = 1, ended_at = 1; UPDATE events SET envelope = x'', payload_gone = 2";
    server.database.connection().execute_unprepared(expire).await.unwrap();
    let (status, event) = server.api.get(&format!("/v1/events/{id}")).await;
    assert_eq!((status, &event["data"], &event["payload"]), (200, &json!(null), &json!("expired")));
    let (_, page) = server.api.get("/v1/deliveries").await;
    let delivery = page["data"][0]["id"].as_str().unwrap();
    let (status, problem) = server.api.post(&format!("/v1/deliveries/{delivery}/retry"), &json!({})).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("expired"), "{problem}");
}
