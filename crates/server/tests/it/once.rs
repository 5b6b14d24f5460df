//! Requests with an `Idempotency-Key`: carried out once.

use http::Method;
use postrider_testkit::Api;
use postrider_testkit::api::Answer;
use serde_json::{Value, json};

use crate::api::TestServer;
use crate::keys::made;

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    api.send(Method::POST, path, &headers, body.to_string()).await
}

fn subscriber() -> Value {
    json!({"url": "http://127.0.0.1:9/", "events": ["*"]})
}

async fn count(api: &Api) -> usize {
    api.get("/v1/subscribers").await.1["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_changes_nothing() {
    let server = TestServer::start().await;
    let first = post(&server.api, "/v1/subscribers", "one", &subscriber()).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{}", first.text());
    let second = post(&server.api, "/v1/subscribers", "one", &subscriber()).await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (201, Some("true")));
    // With the generated secret.
    assert!(first.json()["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((first.text(), first.header("location")), (second.text(), second.header("location")));
    assert_eq!(second.header("content-type"), Some("application/json"));
    assert_eq!(count(&server.api).await, 1);
    assert_eq!(post(&server.api, "/v1/subscribers", "two", &subscriber()).await.status, 201);
    assert_eq!(count(&server.api).await, 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_caller() {
    let server = TestServer::start().await;
    assert_eq!(post(&server.api, "/v1/subscribers", "k", &subscriber()).await.status, 201);
    let mut other = subscriber();
    other["description"] = json!("another");
    for (path, body) in [("/v1/subscribers", &other), ("/v1/tenants", &json!({"id": "acme"}))] {
        let answer = post(&server.api, path, "k", body).await;
        assert_eq!(answer.status, 409, "{path}: {}", answer.text());
        assert!(answer.text().contains("used for another request"), "{}", answer.text());
    }
    assert_eq!(count(&server.api).await, 1);
    // Another tenant, and another credential of the same one.
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(post(&acme, "/v1/subscribers", "k", &subscriber()).await.status, 201);
    let powers = json!({"name": "n", "tenant": "acme", "scopes": ["subscribers:write", "subscribers:read"]});
    let (integrator, _) = made(&server, &server.api, &powers).await;
    assert_eq!(post(&integrator, "/v1/subscribers", "k", &other).await.status, 201);
    assert_eq!(count(&acme).await, 2);
}

#[tokio::test]
async fn a_request_that_failed_can_be_corrected_under_its_key() {
    let server = TestServer::start().await;
    let wrong = json!({"url": "http://127.0.0.1:9/", "events": ["not a pattern"]});
    assert_eq!(post(&server.api, "/v1/subscribers", "k", &wrong).await.status, 422);
    assert_eq!(post(&server.api, "/v1/subscribers", "k", &subscriber()).await.status, 201);
    for key in ["", "caf\u{e9}", &"x".repeat(256)] {
        let answer = post(&server.api, "/v1/subscribers", key, &subscriber()).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (422, &json!("Idempotency-Key")));
    }
}

/// Of many at once, one is carried out. The others get its answer, or 409 until it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_at_the_same_time_change_one_thing() {
    let server = TestServer::start().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let api = server.api.clone();
        running.spawn(async move { post(&api, "/v1/subscribers", "k", &subscriber()).await });
    }
    let answers = running.join_all().await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!created.is_empty());
    assert!(created.iter().all(|answer| answer.text() == created[0].text()));
    let told = |answer: &&Answer| answer.status == 409 && answer.text().contains("being carried out");
    assert_eq!(created.len() + answers.iter().filter(told).count(), 20);
    assert_eq!(count(&server.api).await, 1);
}

#[tokio::test]
async fn a_test_event_is_sent_once_for_each_key() {
    let server = TestServer::start().await;
    let id = server.subscriber(&["*"]).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/subscribers/{id}/test");
    let (first, second) = (
        post(&server.api, &path, "k", &Value::Null).await,
        post(&server.api, &path, "k", &Value::Null).await,
    );
    assert_eq!(
        (first.json()["id"].clone(), second.json()["duplicate"].clone()),
        (second.json()["id"].clone(), json!(true))
    );
    assert_ne!(post(&server.api, &path, "other", &Value::Null).await.json()["id"], first.json()["id"]);
}
