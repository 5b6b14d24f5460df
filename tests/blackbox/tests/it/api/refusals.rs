use http::Method;
use postrider_testkit::{Api, TestDatabase};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::client::fields;
use crate::deployment::{ADMIN_KEY, Deployment};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A mebibyte, which is what a body may have.
const LIMIT: usize = 1 << 20;

/// There is nothing in any table that a request could have put there.
async fn assert_nothing_stored(database: &TestDatabase, why: &str) {
    for table in [
        "subscribers",
        "subscriptions",
        "events",
        "idempotency_keys",
        "deliveries",
        "jobs",
        "attempts",
        "rollups",
    ] {
        let count =
            Statement::from_string(DbBackend::Postgres, format!("SELECT count(*) AS count FROM {table}"));
        let row = database.connection().query_one_raw(count).await.unwrap().unwrap();
        assert_eq!(row.try_get::<i64>("", "count").unwrap(), 0, "rows of {table} after {why}");
    }
}

/// An event whose request has so many bytes.
fn event_of(size: usize) -> String {
    let (start, end) = (r#"{"event":"a","data":{"a":""#, r#""}}"#);
    format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_refused_request_is_stored() {
    let deployment = Deployment::start(0).await;
    let api = &deployment.api;
    let good = json!({"event": "a", "data": {}});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, field) in [
        (with("event", json!("")), "event"),
        (with("event", json!("order created")), "event"),
        (with("event", json!("a".repeat(129))), "event"),
        (with("data", json!("text")), "data"),
        (with("data", json!(1)), "data"),
        (with("data", json!(null)), "data"),
        (with("id", json!("")), "id"),
        (with("agent_id", json!("")), "agent_id"),
        (with("unknown", json!(1)), "unknown"),
        (json!({"event": "a"}), "data"),
        (json!(["a", {}, "agent", "id"]), "body"),
        (json!("text"), "body"),
    ] {
        let answer = api.post_raw("/v1/events", body.to_string()).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        assert_eq!(fields(&problem), [field], "{body}: {problem}");
        assert_eq!((&problem["status"], &problem["title"]), (&json!(422), &json!("Unprocessable Entity")));
    }
    let good = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, field) in [
        (with("url", json!("ftp://127.0.0.1/")), "url"),
        (with("url", json!("http://user:password@127.0.0.1/")), "url"),
        (with("url", json!("http://")), "url"),
        (with("events", json!([])), "events"),
        (with("events", json!(["ok", "not ok"])), "events[1]"),
        (with("secret", json!("short")), "secret"),
        (with("headers", json!({"Host": "internal"})), "headers"),
        (with("policy", json!({"max_attempts": 0})), "policy.max_attempts"),
        (with("unknown", json!(1)), "unknown"),
        (json!({"url": "http://127.0.0.1/"}), "events"),
    ] {
        let (status, problem) = api.post("/v1/subscribers", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{body}: {problem}");
    }
    assert_nothing_stored(&deployment.database, "requests that do not hold").await;

    for body in ["", "{", "nonsense", r#"{"event":"a","data":{}}x"#, r#"{"event":"a","data":{"a":}}"#] {
        let answer = api.post_raw("/v1/events", body).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    let answer = api.post_raw("/v1/events", &b"{\"event\":\"a\",\"data\":{\"a\":\"\xff\"}}"[..]).await;
    assert_eq!(answer.status, 400, "not UTF-8");
    for path in ["/v1/events", "/v1/events/batch", "/v1/subscribers"] {
        let answer = api.post_raw(path, event_of(LIMIT + 1)).await;
        assert_eq!((answer.status, answer.json()["status"].take()), (413, json!(413)), "{path}");
        let answer = api.send(Method::POST, path, &[("content-type", "text/plain")], "{}").await;
        assert_eq!(answer.status, 415, "{path}");
    }
    assert_nothing_stored(&deployment.database, "bodies that are none").await;
    assert_eq!(api.post_raw("/v1/events", event_of(LIMIT)).await.status, 202, "the limit itself is allowed");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_nothing_is_done() {
    let deployment = Deployment::start(0).await;
    let anybody = Api::without_key(deployment.server_url().await);
    let wrong = format!("Bearer {}", "x".repeat(ADMIN_KEY.len()));
    let (longer, basic) = (format!("Bearer {ADMIN_KEY}x"), format!("Basic {ADMIN_KEY}"));
    for authorization in [None, Some(wrong.as_str()), Some(&longer), Some(&basic), Some("Bearer")] {
        let mut headers = vec![JSON];
        headers.extend(authorization.map(|value| ("authorization", value)));
        for (method, path, body) in [
            (Method::POST, "/v1/events", r#"{"event":"a","data":{}}"#),
            (Method::POST, "/v1/subscribers", r#"{"url":"http://127.0.0.1:9/","events":["*"]}"#),
            (Method::GET, "/v1/stats", ""),
            (Method::GET, "/v1/deliveries", ""),
        ] {
            let answer = anybody.send(method.clone(), path, &headers, body).await;
            assert_eq!(answer.status, 401, "{method} {path} {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.json()["status"], 401);
        }
    }
    assert_nothing_stored(&deployment.database, "a wrong key").await;
    deployment.stop().await;
}
