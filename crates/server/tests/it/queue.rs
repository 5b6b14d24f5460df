//! The queue and its workers, subscribers and deliveries by what they are.

use std::time::Duration;

use postrider_queue::{CheckIn, WorkerId};
use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

async fn subscribe(api: &postrider_testkit::Api, fields: Value) -> String {
    let mut body = json!({"url": "https://receiver.invalid/hook", "events": ["*"]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (status, subscriber) = api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{subscriber}");
    subscriber["id"].as_str().unwrap().to_owned()
}

async fn dispatch(api: &postrider_testkit::Api, event: &str) {
    assert_eq!(api.post("/v1/events", &json!({"event": event, "data": {}})).await.0, 202);
}

#[tokio::test]
async fn operators_see_the_workers_and_the_queue() {
    let server = TestServer::start().await;
    let check_in = CheckIn {
        worker: WorkerId(server.store.ids().next_uuid()),
        host: "worker-3".to_owned(),
        version: "1.2.3".to_owned(),
        in_flight: 4,
        busy: false,
        lapse: Duration::from_secs(3),
    };
    server.store.queue().check_in(&check_in).await.unwrap();
    let (status, workers) = server.api.get("/v1/workers").await;
    assert_eq!(status, 200, "{workers}");
    let worker = &workers["data"][0];
    assert_eq!(worker["id"], check_in.worker.0.to_string());
    let shown = (&worker["host"], &worker["version"], &worker["in_flight"], &worker["silent"]);
    assert_eq!(shown, (&json!("worker-3"), &json!("1.2.3"), &json!(4), &json!(false)));
    assert!(worker["since"].as_str() <= worker["last_seen_at"].as_str(), "{worker}");

    let (_, idle) = server.api.get("/v1/queue").await;
    assert_eq!((&idle["ready"], &idle["longest_wait_seconds"]), (&json!(0), &json!(null)));
    subscribe(&server.api, json!({})).await;
    dispatch(&server.api, "a.b").await;
    let (status, queue) = server.api.get("/v1/queue").await;
    assert_eq!((status, &queue["ready"], &queue["running"]), (200, &json!(1), &json!(0)), "{queue}");
    assert!(queue["longest_wait_seconds"].as_f64().unwrap() >= 0.0, "{queue}");
}

#[tokio::test]
async fn lanes_are_those_of_the_tenant_or_all() {
    let server = TestServer::start().await;
    let (shop, _) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let policy = json!({"rate_limit": {"per_second": 30, "burst": 2}, "concurrency": 7});
    let own = subscribe(&shop, json!({"policy": policy})).await;
    let foreign = subscribe(&server.api, json!({})).await;
    dispatch(&shop, "a.b").await;
    dispatch(&server.api, "a.b").await;
    dispatch(&server.api, "a.c").await;
    assert_eq!(shop.post(&format!("/v1/subscribers/{own}/pause"), &json!({})).await.0, 200);

    let ids = |page: &Value| {
        let lanes = page["data"].as_array().unwrap().clone();
        lanes.iter().map(|lane| lane["subscriber_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (status, lanes) = shop.get("/v1/queue/lanes").await;
    assert_eq!((status, ids(&lanes)), (200, vec![own.clone()]), "{lanes}");
    let lane = &lanes["data"][0];
    assert_eq!((&lane["tenant"], &lane["depth"], &lane["more"]), (&json!("acme"), &json!(1), &json!(false)));
    assert_eq!(lane["pause"], json!({"reason": "subscriber", "until": null}));
    assert_eq!(lane["rate_limit"], json!({"per_second": 30.0, "burst": 2}));
    assert_eq!((&lane["concurrency"], &lane["ordered"]), (&json!(7), &json!(false)));

    assert_eq!(ids(&server.api.get("/v1/queue/lanes").await.1), [foreign.as_str(), &own]);
    assert_eq!(ids(&server.api.get("/v1/queue/lanes?order=age").await.1), [own.as_str(), &foreign]);
    let (_, first) = server.api.get("/v1/queue/lanes?limit=1").await;
    let next = format!("/v1/queue/lanes?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(ids(&server.api.get(&next).await.1), [own.as_str()]);
    assert_eq!(ids(&server.tenant("acme").get("/v1/queue/lanes").await.1), [own.as_str()]);
    let key = json!({"name": "n", "tenant": "*", "scopes": ["stats:read"]});
    let (reader, _) = made(&server, &server.api, &key).await;
    assert_eq!(ids(&reader.get("/v1/queue/lanes").await.1), [foreign.as_str()], "those of `default`");
    for (query, field) in [("order=size", "order"), ("cursor=x", "cursor"), ("limit=0", "limit")] {
        let (status, problem) = server.api.get(&format!("/v1/queue/lanes?{query}")).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
    }
    assert_eq!(shop.get("/v1/queue").await.0, 403);
    assert_eq!(shop.get("/v1/workers").await.0, 403);
}

#[tokio::test]
async fn subscribers_and_deliveries_are_filtered() {
    let server = TestServer::start().await;
    let named = subscribe(&server.api, json!({"uid": "shop", "events": ["order.*"]})).await;
    let off = subscribe(&server.api, json!({"active": false, "url": "https://other.invalid/"})).await;
    dispatch(&server.api, "order.paid").await;
    dispatch(&server.api, "order.sent").await;
    let count = async |path: &str| {
        let (status, page) = server.api.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page["data"].as_array().unwrap().len()
    };
    for (query, found) in [
        ("event=order.paid", 2),
        ("event=order.paid&active=true", 1),
        ("active=false", 1),
        ("failing=false", 2),
        ("failing=true", 0),
        ("url=other.invalid", 1),
        ("uid=shop", 1),
        ("uid=shop&active=false", 0),
        ("uid=unknown", 0),
    ] {
        assert_eq!(count(&format!("/v1/subscribers?{query}")).await, found, "{query}");
    }
    for (query, found) in [
        ("event=order.*", 2),
        ("event=*", 2),
        ("event=order.paid", 1),
        ("event=ord.*", 0),
        ("response_code=5xx", 0),
        ("error_kind=timeout_dns", 0),
        ("dead_reason=attempts_used_up", 0),
        ("max_attempts=0&event=order.*", 2),
        ("min_attempts=1", 0),
    ] {
        assert_eq!(count(&format!("/v1/deliveries?{query}")).await, found, "{query}");
    }
    for (path, field) in [
        ("/v1/subscribers?active=yes", "active"),
        ("/v1/subscribers?event=order.*", "event"),
        ("/v1/deliveries?response_code=6xx", "response_code"),
        ("/v1/deliveries?response_code=50x", "response_code"),
        ("/v1/deliveries?event=ord*", "event"),
        ("/v1/deliveries?min_attempts=-1", "min_attempts"),
    ] {
        let (status, problem) = server.api.get(path).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{path}: {problem}");
    }
    assert_ne!(named, off);
}
