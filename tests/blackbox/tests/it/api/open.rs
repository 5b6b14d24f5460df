use postrider_testkit::Api;
use serde_json::json;

use crate::client::{dispatch, subscribe};
use crate::deployment::Deployment;

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
