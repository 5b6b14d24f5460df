//! Changes to subscribers: merged at every depth, and careful with secrets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{TestServer, fields};

fn path(subscriber: &Value) -> String {
    format!("/v1/subscribers/{}", subscriber["id"].as_str().unwrap())
}

async fn create(server: &TestServer, request: Value) -> Value {
    let (status, created) = server.api.post("/v1/subscribers", &request).await;
    assert_eq!(status, 201, "{created}");
    created
}

#[tokio::test]
async fn a_change_merges_at_every_depth() {
    let server = TestServer::start().await;
    let created = create(
        &server,
        json!({
            "url": "https://example.com/hook", "events": ["*"],
            "headers": {"authorization": "Bearer t0p", "x-team": "a", "x-old": "1"},
            "policy": {"ordered": true, "timeout": "5s", "rate_limit": {"per_second": 5.0, "burst": 2}},
        }),
    )
    .await;
    for (change, field, expected) in [
        (
            json!({"policy": {"concurrency": 8}}),
            "policy",
            json!({"ordered": true, "timeout": "5s", "concurrency": 8, "rate_limit": {"per_second": 5.0, "burst": 2}}),
        ),
        (
            json!({"policy": {"timeout": null, "rate_limit": {"burst": null, "per_second": 7}}}),
            "policy",
            json!({"ordered": true, "concurrency": 8, "rate_limit": {"per_second": 7.0}}),
        ),
        (json!({"policy": {"rate_limit": null}}), "policy", json!({"ordered": true, "concurrency": 8})),
        (json!({"policy": {}}), "policy", json!({"ordered": true, "concurrency": 8})),
        (json!({"headers": {"X-Team": "b", "x-old": null}}), "headers", json!(["authorization", "x-team"])),
        (json!({"headers": {"x-new": "2"}}), "headers", json!(["authorization", "x-team", "x-new"])),
        (json!({"headers": {}}), "headers", json!(["authorization", "x-team", "x-new"])),
        (json!({"headers": null}), "headers", json!([])),
        (json!({"policy": null}), "policy", json!({})),
    ] {
        let (status, changed) = server.api.patch(&path(&created), &change).await;
        assert_eq!((status, &changed[field]), (200, &expected), "{change}: {changed}");
    }
}

#[tokio::test]
async fn a_change_is_validated_as_it_is_after_merging() {
    let server = TestServer::start().await;
    let policy = json!({"schedule": ["1s"], "rate_limit": {"per_second": 5.0}});
    let headers = json!({"x-a": "1"});
    let request =
        json!({"url": "https://example.com/", "events": ["*"], "policy": policy, "headers": headers});
    let created = create(&server, request).await;
    for (change, wrong) in [
        (json!({"policy": {"exponential": {"base": "1s", "factor": 2, "cap": "1h"}}}), "policy.exponential"),
        (json!({"policy": {"exponential": {"factor": 2}}}), "policy.exponential.base"),
        (json!({"policy": {"rate_limit": {"per_second": "fast"}}}), "policy.rate_limit.per_second"),
        (json!({"policy": {"rate_limit": {"per_second": null}}}), "policy.rate_limit.per_second"),
        (json!({"policy": {"unknown": 1}}), "policy.unknown"),
        (json!({"policy": 5}), "policy"),
        (json!({"headers": {"x-a": "1", "X-A": null}}), "headers"),
        (json!({"headers": {"host": null}}), "headers"),
        (json!({"headers": {"x-b": 5}}), "headers.x-b"),
    ] {
        let (status, problem) = server.api.patch(&path(&created), &change).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{change}: {problem}");
    }
    let (_, after) = server.api.get(&path(&created)).await;
    assert_eq!((&after["policy"], &after["headers"]), (&policy, &json!(["x-a"])), "nothing has changed");
}

#[tokio::test]
async fn secrets_go_to_another_host_only_if_the_caller_knows_them_or_says_so() {
    let server = TestServer::start().await;
    let created = create(
        &server,
        json!({"url": "https://one.example/", "events": ["*"], "secret": "a secret", "headers": {"x-a": "1", "x-b": "2"}}),
    )
    .await;
    let at = path(&created);
    let there = "https://other.example/";
    for change in [
        json!({"url": there}),
        json!({"url": there, "keep_secrets": false}),
        json!({"url": there, "secret": "a secret"}),
        json!({"url": there, "secret": "a secret", "headers": {"x-a": "1"}}),
        json!({"url": there, "headers": null}),
        json!({"url": "https://one.example.evil.example/"}),
    ] {
        let (status, problem) = server.api.patch(&at, &change).await;
        assert_eq!((status, fields(&problem)), (422, vec!["url"]), "{change}: {problem}");
    }
    for (change, host, secret) in [
        (json!({"url": "https://ONE.example:8443/path"}), "one.example", "a secret"),
        (json!({"url": there, "keep_secrets": true}), "other.example", "a secret"),
        (
            json!({"url": "https://third.example/", "secret": "b secret", "headers": {"X-A": "3", "x-b": null}}),
            "third.example",
            "b secret",
        ),
        (
            json!({"url": "https://fourth.example/", "secret": "c secret", "headers": null}),
            "fourth.example",
            "c secret",
        ),
    ] {
        let (status, changed) = server.api.patch(&at, &change).await;
        assert_eq!(status, 200, "{change}: {changed}");
        assert!(changed["url"].as_str().unwrap().contains(host), "{changed}");
        assert_eq!(server.api.get(&format!("{at}/secret")).await.1["secret"], secret, "{change}");
    }
    let (status, problem) = server.api.patch(&at, &json!({"secret": "d secret"})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["secret"]), "without a move: {problem}");
}

#[tokio::test]
async fn deactivating_again_keeps_the_first_reason_and_time() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["*"]).await;
    let off = format!("{}/deactivate", path(&subscriber));
    let (_, first) = server.api.post(&off, &Value::Null).await;
    server.test_database.advance(Duration::from_secs(5)).await;
    for _ in 0..2 {
        let (status, again) = server.api.post(&off, &Value::Null).await;
        assert_eq!((status, &again["deactivated_at"]), (200, &first["deactivated_at"]), "{again}");
    }
    let (_, again) = server.api.patch(&path(&subscriber), &json!({"active": false})).await;
    assert_eq!(again["deactivated_at"], first["deactivated_at"]);
}
