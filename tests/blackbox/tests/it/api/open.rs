use postrider_testkit::Api;
use serde_json::json;

use crate::client::{dispatch, subscribe};
use crate::deployment::{DEADLINE, Deployment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_has_a_line_in_the_log() {
    let deployment = Deployment::start(0).await;
    let named = |id: &str| deployment.api.clone().with_header("x-request-id", id);
    assert_eq!(named("first").post("/v1/events", &json!({"event": "a", "data": {}})).await.0, 202);
    assert_eq!(
        named("second").with_header("x-tenant-id", "acme").get("/v1/events/evt_1?secret=t0p").await.0,
        404
    );
    let anonymous = Api::without_key(deployment.server_url().await).with_header("x-request-id", "third");
    assert_eq!(anonymous.get("/v1/stats").await.0, 401);
    let refused = named("fourth").with_header("x-tenant-id", "no tenant");
    assert_eq!(refused.get("/v1/stats").await.0, 422);
    for (id, [method, route, status, key, tenant]) in [
        ("first", ["POST", "/v1/events", "202", "environment", "default"]),
        ("second", ["GET", "/v1/events/{id}", "404", "environment", "acme"]),
        ("third", ["GET", "/v1/stats", "401", "", ""]),
        ("fourth", ["GET", "/v1/stats", "422", "environment", ""]),
    ] {
        let line = deployment.server.process.wait_for_line(|line| line.contains(id), DEADLINE).await;
        for part in [" INFO ", ": request ", &format!("method={method:?} "), &format!("route={route:?} ")] {
            assert!(line.contains(part), "{part} in {line}");
        }
        for part in [format!("status={status} "), format!("request_id={id:?}")] {
            assert!(line.contains(&part), "{part} in {line}");
        }
        for (name, value) in [("key", key), ("tenant", tenant)] {
            let part = format!("{name}={value:?}");
            assert_eq!(line.contains(&part), !value.is_empty(), "{part} in {line}");
        }
        assert!(line.contains(" duration_ms=") && !line.contains("t0p"), "{line}");
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_metrics_and_docs_need_no_key() {
    let deployment = Deployment::start(1).await;
    let open = Api::without_key(deployment.server_url().await).described().await;
    subscribe(&deployment.api, "http://127.0.0.1:9/").await;
    dispatch(&deployment.api, "a").await;

    let docs = open.send(http::Method::GET, "/docs", &[], "").await;
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").unwrap().starts_with("text/html"), "{:?}", docs.headers);

    let worker = &deployment.workers[0].telemetry;
    for (name, address) in [("api", &open), ("server", &deployment.server.telemetry), ("worker", worker)] {
        assert_eq!(address.get("/healthz").await, (200, json!({"status": "ok"})), "{name}");
        assert_eq!(address.get("/readyz").await, (200, json!({"status": "ready"})), "{name}");
        let metrics = address.send(http::Method::GET, "/metrics", &[], "").await;
        if name == "api" {
            assert_eq!(metrics.status, 404, "metrics are on the telemetry address only");
            continue;
        }
        assert_eq!(metrics.status, 200, "{name}");
        assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{name}");
        assert!(metrics.text().contains("webhook_build_info{"), "{name}");
    }
    for telemetry in [&deployment.server.telemetry, worker] {
        assert_eq!(telemetry.get("/v1/events").await.0, 404, "the API is not on the telemetry address");
    }
    deployment.stop().await;
}
