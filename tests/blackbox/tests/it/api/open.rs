use postrider_testkit::Api;
use serde_json::json;

use crate::client::{dispatch, subscribe, text};
use crate::deployment::Deployment;

/// Without a key: what the API is, and how its programs are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_key() {
    let deployment = Deployment::start(1).await;
    let open = Api::without_key(deployment.server_url().await);
    subscribe(&deployment.api, "http://127.0.0.1:9/").await;
    dispatch(&deployment.api, "a").await;

    let (status, description) = open.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(text(&description["openapi"]).starts_with("3."), "{}", description["openapi"]);
    for (path, method) in [
        ("/v1/events", "post"),
        ("/v1/events", "get"),
        ("/v1/events/batch", "post"),
        ("/v1/events/{id}", "get"),
        ("/v1/subscribers", "post"),
        ("/v1/subscribers", "get"),
        ("/v1/subscribers/{id}", "get"),
        ("/v1/subscribers/{id}", "patch"),
        ("/v1/subscribers/{id}", "delete"),
        ("/v1/subscribers/{id}/activate", "post"),
        ("/v1/subscribers/{id}/deactivate", "post"),
        ("/v1/subscribers/{id}/secret", "get"),
        ("/v1/subscribers/{id}/secret/rotate", "post"),
        ("/v1/deliveries", "get"),
        ("/v1/deliveries/{id}", "get"),
        ("/v1/deliveries/{id}/attempts", "get"),
        ("/v1/deliveries/{id}/retry", "post"),
        ("/v1/deliveries/{id}/cancel", "post"),
        ("/v1/dead-letters", "get"),
        ("/v1/dead-letters/requeue", "post"),
        ("/v1/dead-letters/{id}", "delete"),
        ("/v1/subscribers/{id}/recover", "post"),
        ("/v1/subscribers/{id}/test", "post"),
        ("/v1/stats", "get"),
    ] {
        assert!(description["paths"][path][method].is_object(), "{method} {path} is not described");
    }
    let docs = open.send(http::Method::GET, "/docs", &[], "").await;
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").unwrap().starts_with("text/html"), "{:?}", docs.headers);

    let worker = &deployment.workers[0].telemetry;
    for (name, address) in [("api", &open), ("server", &deployment.server.telemetry), ("worker", worker)] {
        assert_eq!(address.get("/healthz").await, (200, json!({"status": "ok"})), "{name}");
        assert_eq!(address.get("/readyz").await, (200, json!({"status": "ready"})), "{name}");
        let metrics = address.send(http::Method::GET, "/metrics", &[], "").await;
        assert_eq!(metrics.status, 200, "{name}");
        assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{name}");
        assert!(metrics.text().contains("webhook_build_info{"), "{name}");
    }
    for telemetry in [&deployment.server.telemetry, worker] {
        assert_eq!(telemetry.get("/v1/events").await.0, 404, "the API is not on the telemetry address");
    }
    deployment.stop().await;
}
