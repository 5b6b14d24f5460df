//! What limits keys: rates, networks, subscribers, event types, and wrong keys.

use http::Method;
use postrider_core::key::KeyRate;
use postrider_server::Config;
use postrider_testkit::Api;
use serde_json::{Value, json};

use crate::api::TestServer;
use crate::keys::{acme, made};

async fn limited(server: &TestServer, scopes: &[&str], limits: &Value) -> Api {
    let mut request = acme(scopes);
    request["limits"] = limits.clone();
    made(server, &server.api, &request).await.0
}

#[tokio::test]
async fn a_key_makes_no_more_requests_than_its_rate() {
    let server = TestServer::start().await;
    let api = limited(&server, &["observer"], &json!({"requests_per_second": 1, "burst": 3})).await;
    let get = async || api.send(Method::GET, "/v1/events", &[], "").await;
    let first = get().await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"key\";q=3;w=3"));
    assert_eq!(first.header("ratelimit"), Some("\"key\";r=2;t=1"));
    let mut limited = None;
    for _ in 0..20 {
        let answer = get().await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let limited = limited.expect("twenty requests within a second are more than four");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.json()["status"], 429);
    let (other, _) = made(&server, &server.api, &acme(&["observer"])).await;
    let answer = other.send(Method::GET, "/v1/events", &[], "").await;
    assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "a key without a rate is unlimited");
}

#[tokio::test]
async fn a_key_is_used_only_from_its_networks() {
    let proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let server = TestServer::with(|config| Config { trusted_proxies: proxies, ..config }).await;
    let api = limited(&server, &["observer"], &json!({"cidrs": ["198.51.100.0/24"]})).await;
    assert_eq!(api.get("/v1/events").await.0, 403);
    let from = async |forwarded: &str| {
        let header = [("x-forwarded-for", forwarded)];
        api.send(Method::GET, "/v1/events", &header, "").await.status
    };
    assert_eq!(from("198.51.100.7").await, 200);
    assert_eq!(from("203.0.113.1, 198.51.100.7").await, 200);
    assert_eq!(from("198.51.100.7, 203.0.113.1").await, 403, "the client has invented the first");
}

#[tokio::test]
async fn a_forwarded_address_does_not_count_without_a_trusted_proxy() {
    let server = TestServer::start().await;
    let api = limited(&server, &["observer"], &json!({"cidrs": ["198.51.100.0/24"]})).await;
    let header = [("x-forwarded-for", "198.51.100.7")];
    assert_eq!(api.send(Method::GET, "/v1/events", &header, "").await.status, 403);
}

#[tokio::test]
async fn a_key_dispatches_only_its_event_types() {
    let server = TestServer::start().await;
    let api = limited(&server, &["integrator"], &json!({"event_types": ["order.*"]})).await;
    let event = |event: &str| json!({"event": event, "data": {}});
    assert_eq!(api.post("/v1/events", &event("order.created")).await.0, 202);
    let (status, problem) = api.post("/v1/events", &event("user.created")).await;
    assert_eq!(status, 403, "{problem}");
    let batch = json!({"events": [event("order.paid"), event("user.created")]});
    let (status, answer) = api.post("/v1/events/batch", &batch).await;
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (202, 2), "{answer}");
    assert!(answer["results"][0]["id"].is_string(), "{answer}");
    assert_eq!(answer["results"][1]["status"], 403, "{answer}");
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    let (_, subscriber) = api.post("/v1/subscribers", &body).await;
    let test = format!("/v1/subscribers/{}/test", subscriber["id"].as_str().unwrap());
    assert_eq!(api.post(&test, &json!({})).await.0, 403, "a test event has another type");
    let (_, foreign) = server.tenant("acme").post("/v1/events", &event("user.created")).await;
    let payload = format!("/v1/events/{}/payload", foreign["id"].as_str().unwrap());
    assert_eq!(api.delete(&payload).await.0, 403);
    let (_, events) = api.get("/v1/events").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 3, "all of them are there to read");
}

/// The calls for one subscriber `{s}`, delivery `{d}` or replay `{r}`.
fn calls_of_one() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "/v1/subscribers/{s}", json!(null)),
        (Method::PATCH, "/v1/subscribers/{s}", json!({"description": "x"})),
        (Method::DELETE, "/v1/subscribers/{s}", json!(null)),
        (Method::POST, "/v1/subscribers/{s}/activate", json!(null)),
        (Method::POST, "/v1/subscribers/{s}/deactivate", json!(null)),
        (Method::POST, "/v1/subscribers/{s}/test", json!(null)),
        (Method::POST, "/v1/subscribers/{s}/recover", json!({"since": "2026-01-01T00:00:00Z"})),
        (Method::GET, "/v1/subscribers/{s}/secret", json!(null)),
        (Method::POST, "/v1/subscribers/{s}/secret/rotate", json!({})),
        (Method::GET, "/v1/deliveries/{d}", json!(null)),
        (Method::GET, "/v1/deliveries/{d}/attempts", json!(null)),
        (Method::POST, "/v1/deliveries/{d}/retry", json!(null)),
        (Method::POST, "/v1/deliveries/{d}/cancel", json!(null)),
        (Method::DELETE, "/v1/dead-letters/{d}", json!(null)),
        (Method::GET, "/v1/replays/{r}", json!(null)),
        (Method::POST, "/v1/replays/{r}/pause", json!(null)),
        (Method::POST, "/v1/replays/{r}/resume", json!(null)),
        (Method::POST, "/v1/replays/{r}/cancel", json!(null)),
    ]
}

#[tokio::test]
async fn a_key_reaches_only_its_subscribers() {
    let server = TestServer::start().await;
    let tenant = server.tenant("acme");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let body = json!({"url": "http://127.0.0.1:9/", "events": ["order.*"]});
        ids.push(tenant.post("/v1/subscribers", &body).await.1["id"].as_str().unwrap().to_owned());
    }
    tenant.post("/v1/events", &json!({"event": "order.created", "data": {}})).await;
    let (_, deliveries) = tenant.get("/v1/deliveries").await;
    let delivery_to = |id: &str| {
        let mut all = deliveries["data"].as_array().unwrap().iter();
        all.find(|delivery| delivery["subscriber_id"] == id).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (own, foreign) = (delivery_to(&ids[0]), delivery_to(&ids[2]));
    let one = limited(&server, &["tenant_admin"], &json!({"subscriber_ids": [ids[0]]})).await;
    let two = limited(&server, &["tenant_admin"], &json!({"subscriber_ids": [ids[0], ids[1]]})).await;

    let listed = async |api: &Api, path: &str| -> Vec<Value> {
        let (status, page) = api.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page["data"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    assert_eq!(listed(&one, "/v1/subscribers").await, [json!(ids[0])]);
    assert_eq!(listed(&two, "/v1/subscribers").await, [json!(ids[1]), json!(ids[0])]);
    let (_, page) = two.get("/v1/subscribers?limit=1").await;
    let rest = format!("/v1/subscribers?cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(listed(&two, &rest).await, [json!(ids[0])]);
    assert_eq!(listed(&one, "/v1/deliveries").await, [json!(own)]);
    let event = tenant.get("/v1/events").await.1["data"][0]["id"].as_str().unwrap().to_owned();
    let explain = format!("/v1/events/{event}/explain");
    for path in
        ["/v1/deliveries", "/v1/dead-letters", "/v1/stats", "/v1/stats/series", "/v1/queue/lanes", &explain]
    {
        assert_eq!(one.get(path).await.0, 200, "{path}: the only one is meant");
        assert_eq!(two.get(path).await.0, 403, "{path}: one of two must be named");
        assert_eq!(two.get(&format!("{path}?subscriber_id={}", ids[1])).await.0, 200, "{path}");
        assert_eq!(two.get(&format!("{path}?subscriber_id={}", ids[2])).await.0, 403, "{path}");
    }
    assert_eq!(one.post("/v1/dead-letters/requeue", &json!({"subscriber_id": ids[2]})).await.0, 403);
    assert_eq!(one.post("/v1/dead-letters/requeue", &json!({"all": true})).await.0, 202);

    for path in ["/v1/queue/lanes", &explain] {
        let (_, page) = one.get(path).await;
        let of: Vec<_> = page["data"].as_array().unwrap().iter().map(|item| &item["subscriber_id"]).collect();
        assert_eq!(of, [&ids[0]], "{path}");
    }

    // Replays, and what cancels deliveries.
    let of = |id: &str| json!({"filter": {"subscriber_id": id}, "mode": "all"});
    let all = json!({"filter": {}, "mode": "all"});
    for path in ["/v1/replays", "/v1/deliveries/cancel"] {
        let body = |mut body: Value| {
            if path != "/v1/replays" {
                body.as_object_mut().unwrap().remove("mode");
            }
            body
        };
        assert_eq!(one.post(path, &body(all.clone())).await.0, 202, "{path}: the only one is meant");
        assert_eq!(two.post(path, &body(all.clone())).await.0, 403, "{path}: one of two must be named");
        assert_eq!(two.post(path, &body(of(&ids[2]))).await.0, 403, "{path}");
        assert_eq!(two.post(path, &body(of(&ids[1]))).await.0, 202, "{path}");
    }
    let foreign_replay = tenant.post("/v1/replays", &of(&ids[2])).await.1["id"].as_str().unwrap().to_owned();
    tenant.post("/v1/replays", &all).await;
    let own_replay = listed(&one, "/v1/replays").await;
    assert_eq!((own_replay.len(), listed(&two, "/v1/replays").await.len()), (2, 4), "their own");
    let own_replay = own_replay[1].as_str().unwrap();

    // Foreign ones are answered as unknown ones are.
    let unknown = ["sub", "dlv", "rpl"].map(|prefix| format!("{prefix}_01h455vb4pex5vsknk084sn02q"));
    for (method, path, body) in calls_of_one() {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let json = [("content-type", "application/json")];
        let sent = async |subscriber: &str, delivery: &str, replay: &str| {
            let path = path.replace("{s}", subscriber).replace("{d}", delivery).replace("{r}", replay);
            let answer = one.send(method.clone(), &path, &json, body.clone()).await;
            let mut problem = answer.json();
            problem["request_id"] = json!(null);
            (answer.status, problem)
        };
        let foreign = sent(&ids[2], &foreign, &foreign_replay).await;
        assert_eq!(foreign, sent(&unknown[0], &unknown[1], &unknown[2]).await, "{method} {path}");
        assert_eq!(foreign.0, 404, "{method} {path}: {}", foreign.1);
        if method == Method::GET {
            assert_eq!(sent(&ids[0], &own, own_replay).await.0, 200, "{method} {path}");
        }
    }
    assert_eq!(tenant.get(&format!("/v1/subscribers/{}", ids[2])).await.1["active"], true);
    // What does not concern subscribers is not for this key.
    for path in ["/v1/events", "/v1/keys"] {
        assert_eq!(one.get(path).await.0, 403, "{path}");
    }
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    assert_eq!(one.post("/v1/subscribers", &body).await.0, 403);
    assert_eq!(one.post("/v1/events", &json!({"event": "order.created", "data": {}})).await.0, 403);
}

#[tokio::test]
async fn wrong_keys_are_limited_and_valid_ones_are_not() {
    let wrong_keys = KeyRate::new(1, 3).unwrap();
    let server = TestServer::with(|config| Config { wrong_keys, ..config }).await;
    let (api, created) = made(&server, &server.api, &acme(&["observer"])).await;
    let text = created["key"].as_str().unwrap();
    let mistyped = text.replace("prk_", "prk_0");
    let (_, fresh) = made(&server, &server.api, &acme(&["observer"])).await;
    let mut limited = 0;
    for number in 0..30 {
        let guess = if number % 2 == 0 { format!("guess number {number}") } else { mistyped.clone() };
        let answer = server.with_key(&guess).send(Method::GET, "/v1/events", &[], "").await;
        match answer.status {
            401 => {}
            429 => {
                limited += 1;
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
            status => panic!("{status}"),
        }
        assert_eq!(api.get("/v1/events").await.0, 200, "a valid key is not limited");
        assert_eq!(server.api.get("/v1/events").await.0, 200, "nor is the operator's");
    }
    assert!(limited > 10, "{limited}");
    let fresh = server.with_key(fresh["key"].as_str().unwrap());
    assert_eq!(fresh.get("/v1/events").await.0, 200, "nor is one that the server has not seen before");
    assert_eq!(server.without_key().get("/v1/events").await.0, 401, "no key is no guess");
}
