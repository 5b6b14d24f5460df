//! Simulating deliveries.

use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

fn header<'a>(simulation: &'a Value, name: &str) -> &'a str {
    let headers = simulation["request"]["headers"].as_array().unwrap();
    headers.iter().find(|header| header["name"] == name).unwrap()["value"].as_str().unwrap()
}

#[tokio::test]
async fn a_draft_shows_what_it_would_be_sent() {
    let server = TestServer::start().await;
    let subscriber = json!({
        "url": "https://receiver.invalid/hook?token=s3cret", "events": ["order.*"], "secret": "correct horse battery",
        "format": "data", "headers": {"x-own": "s3cret"}, "policy": {"schedule": ["10s", "1m"], "max_attempts": 3},
    });
    let event = json!({"event": "order.paid", "agent_id": "shop", "data": {"total": 1.50}});
    let (status, answer) =
        server.api.post("/v1/simulate", &json!({"event": event, "subscriber": subscriber})).await;
    assert_eq!(status, 200, "{answer}");
    let simulation = &answer["data"][0];
    assert_eq!((&simulation["matched"], &simulation["reason"]), (&json!(true), &json!("matched")));
    let request = &simulation["request"];
    assert_eq!((&request["body"], &request["method"]), (&json!(r#"{"total":1.5}"#), &json!("POST")));
    assert_eq!(request["url"], "https://receiver.invalid/hook?token=***");
    assert_eq!((header(simulation, "x-own"), header(simulation, "x-agent-id")), ("***", "shop"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"correct horse battery");
    let signature = ring::hmac::sign(&key, br#"{"total":1.5}"#);
    assert_eq!(header(simulation, "x-agent-signature"), format!("sha256={}", hex::encode(signature)));
    let attempts = json!([
        {"number": 1, "after_seconds": 0.0}, {"number": 2, "after_seconds": 10.0}, {"number": 3, "after_seconds": 70.0},
    ]);
    assert_eq!(simulation["attempts"], attempts);
    assert_eq!(server.api.get("/v1/events").await.1["data"], json!([]), "nothing is stored");
    assert_eq!(server.api.get("/v1/subscribers").await.1["data"], json!([]));
}

#[tokio::test]
async fn method_and_compression_are_simulated() {
    let server = TestServer::start().await;
    let simulate = async |policy: Value| {
        let subscriber = json!({
            "url": "https://receiver.invalid/", "events": ["*"], "format": "data", "policy": policy,
            "secret": "correct horse battery",
        });
        let event = json!({"event": "a.b", "data": {"text": "a".repeat(2000)}});
        let (status, answer) =
            server.api.post("/v1/simulate", &json!({"event": event, "subscriber": subscriber})).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"][0].clone()
    };
    let names = |simulation: &Value| {
        let headers = simulation["request"]["headers"].as_array().unwrap().clone();
        headers.iter().map(|header| header["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let plain = simulate(json!({"method": "PATCH"})).await;
    assert_eq!(plain["request"]["method"], "PATCH");
    assert!(!names(&plain).contains(&"content-encoding".to_owned()));
    let compressed = simulate(json!({"method": "PUT", "compression": "gzip"})).await;
    assert_eq!(
        (&compressed["request"]["method"], header(&compressed, "content-encoding")),
        (&json!("PUT"), "gzip")
    );
    assert_eq!(compressed["request"]["body"], plain["request"]["body"], "shown as it was before");
    assert_ne!(compressed["request"]["body_sha256"], plain["request"]["body_sha256"]);
    assert_ne!(header(&compressed, "x-agent-signature"), header(&plain, "x-agent-signature"));
    let get = simulate(json!({"method": "GET", "compression": "gzip"})).await;
    assert_eq!((&get["request"]["method"], &get["request"]["body"]), (&json!("GET"), &json!("")));
    assert!(!names(&get).iter().any(|name| name.starts_with("content-")), "{get}");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(get["request"]["body_sha256"], empty);
}

#[tokio::test]
async fn the_reason_names_what_does_not_match() {
    let server = TestServer::start().await;
    let simulate = async |subscriber: Value, event: Value| {
        let mut draft = json!({"url": "https://receiver.invalid/", "events": ["order.*"]});
        draft.as_object_mut().unwrap().extend(subscriber.as_object().unwrap().clone());
        let mut given = json!({"event": "order.paid", "data": {}});
        given.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        let (status, answer) =
            server.api.post("/v1/simulate", &json!({"event": given, "subscriber": draft})).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(simulate(json!({"active": false}), json!({})).await, "inactive");
    assert_eq!(simulate(json!({}), json!({"event": "user.created"})).await, "pattern");
    assert_eq!(simulate(json!({"channels": ["a"]}), json!({})).await, "channel");
    assert_eq!(simulate(json!({"channels": ["a"]}), json!({"channels": ["b"]})).await, "channel");
    assert_eq!(simulate(json!({"channels": ["a"]}), json!({"channels": ["b", "a"]})).await, "matched");
    assert_eq!(simulate(json!({}), json!({"channels": ["b"]})).await, "matched");
}

#[tokio::test]
async fn signatures_and_payloads_are_for_those_who_may_read_them() {
    let server = TestServer::start().await;
    let tenant = server.api.clone().with_header("x-tenant-id", "acme");
    let wanted =
        json!({"url": "http://127.0.0.1:9/", "events": ["*"], "uid": "shop", "headers": {"x-own": "s3cret"}});
    assert_eq!(tenant.post("/v1/subscribers", &wanted).await.0, 201);
    let (_, event) = tenant.post("/v1/events", &json!({"event": "a.b", "data": {"n": 1}})).await;
    let latest = json!({"subscriber_id": "shop"});
    let (status, answer) = tenant.post("/v1/simulate", &latest).await;
    assert_eq!((status, &answer["data"][0]["event_id"]), (200, &event["id"]), "{answer}");
    assert!(header(&answer["data"][0], "webhook-signature").starts_with("v1,"));
    assert!(!answer.to_string().contains("s3cret"));
    let (_, trail) = server.api.get("/v1/audit?action=secret.read").await;
    assert_eq!(trail["data"].as_array().unwrap().len(), 1, "{trail}");

    let (reader, _) = made(&server, &server.api, &acme(&["events:read"])).await;
    let (status, problem) = reader.post("/v1/simulate", &latest).await;
    assert_eq!((status, &problem["needs"]), (403, &json!("payloads:read")));
    let given = json!({"subscriber_id": "shop", "event": {"event": "a.b", "data": {}}});
    let (status, answer) = reader.post("/v1/simulate", &given).await;
    assert_eq!(status, 200, "{answer}");
    for name in ["webhook-signature", "x-agent-signature"] {
        assert_eq!(header(&answer["data"][0], name), "***", "it could be used for a forgery");
    }
}

#[tokio::test]
async fn a_wrong_simulation_names_its_fields() {
    let server = TestServer::start().await;
    let event = json!({"event": "a.b", "data": {}});
    let draft = json!({"url": "https://receiver.invalid/", "events": ["*"]});
    for (body, wrong) in [
        (json!({}), vec!["subscriber_id"]),
        (json!({"subscriber_id": "x", "subscriber": draft, "event": event}), vec!["subscriber_id"]),
        (json!({"subscriber": draft}), vec!["event"]),
        (json!({"subscriber": draft, "event": event, "event_id": "evt_x"}), vec!["event_id", "event_id"]),
        (json!({"subscriber": {"events": ["*"]}, "event": event}), vec!["subscriber.url"]),
        (json!({"subscriber": draft, "event": {"event": "a.b"}}), vec!["event.data"]),
    ] {
        let (status, problem) = server.api.post("/v1/simulate", &body).await;
        assert_eq!((status, fields(&problem)), (422, wrong), "{body}: {problem}");
    }
    for body in [
        json!({"subscriber_id": "unknown", "event": event}),
        json!({"subscriber": draft, "event_id": "evt_01h455vb4pex5vsknk084sn02q"}),
    ] {
        assert_eq!(server.api.post("/v1/simulate", &body).await.0, 404, "{body}");
    }
}

#[tokio::test]
async fn filters_and_transforms_are_tried() {
    let server = TestServer::start().await;
    let simulate = async |subscriber: Value| {
        let mut draft = json!({"url": "https://receiver.invalid/", "events": ["*"], "format": "data"});
        draft.as_object_mut().unwrap().extend(subscriber.as_object().unwrap().clone());
        let event = json!({"event": "order.paid", "data": {"total": 150, "card": "4111"}});
        let (status, answer) =
            server.api.post("/v1/simulate", &json!({"event": event, "subscriber": draft})).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"][0].clone()
    };
    let plain = simulate(json!({})).await;
    assert_eq!(
        (&plain["filter"], &plain["transform"], &plain["reason"]),
        (&json!(null), &json!(null), &json!("matched"))
    );

    let hit = simulate(json!({"filter": "data.total > 100"})).await;
    assert_eq!(hit["filter"], json!({"result": true, "error": null}));
    let miss = simulate(json!({"filter": "data.total > 200"})).await;
    assert_eq!((&miss["matched"], &miss["reason"]), (&json!(false), &json!("filter")));
    assert_eq!(miss["filter"]["result"], false);
    let failed = simulate(json!({"filter": "data.missing > 200"})).await;
    assert_eq!(
        (&failed["matched"], &failed["filter"]["result"]),
        (&json!(true), &json!(null)),
        "it is delivered"
    );
    assert_eq!(failed["filter"]["error"], "the event has no `missing`; ask with has() before");

    let steps = simulate(json!({"transform": {"steps": [{"op": "drop", "path": "/card"}]}})).await;
    assert_eq!(steps["transform"]["data"], r#"{"total":150}"#);
    assert_eq!(steps["request"]["body"], r#"{"total":150}"#);
    let project = "{'data': {'sum': data.total}, 'headers': {'x-sum': string(data.total)}}";
    let projected = simulate(json!({"transform": {"project": project}})).await;
    assert_eq!(
        (&projected["request"]["body"], header(&projected, "x-sum")),
        (&json!(r#"{"sum":150}"#), "150")
    );
    let broken =
        simulate(json!({"transform": {"steps": [{"op": "set", "path": "/card/x", "value": 1}]}})).await;
    assert_eq!((&broken["request"], &broken["transform"]["data"]), (&json!(null), &json!(null)));
    let error = broken["transform"]["error"].as_str().unwrap();
    assert!(error.starts_with("step 1 (set /card/x) does not fit the data"), "{error}");
}

#[tokio::test]
async fn a_script_shows_attempts_in_virtual_time() {
    let server = TestServer::start().await;
    let simulate = async |script: Value| {
        let policy = json!({"schedule": ["10s", "1m"], "max_attempts": 5, "timeout": "5s"});
        let subscriber = json!({"url": "https://receiver.invalid/", "events": ["*"], "policy": policy});
        let event = json!({"event": "order.paid", "data": {}});
        let body = json!({"event": event, "subscriber": subscriber, "script": script});
        let (status, answer) = server.api.post("/v1/simulate", &body).await;
        (status, answer["data"][0].clone(), answer)
    };
    let script = json!([503, {"status": 429, "retry_after": 100}, {"delay": "30s"}, "reset", "cut"]);
    let (status, simulation, answer) = simulate(script).await;
    assert_eq!(status, 200, "{answer}");
    let attempts: Vec<_> = simulation["attempts"].as_array().unwrap().iter().collect();
    let times: Vec<_> = attempts.iter().map(|attempt| attempt["after_seconds"].as_f64().unwrap()).collect();
    // The third takes its time limit, after which the next delay begins.
    assert_eq!(times, [0.0, 10.0, 110.0, 175.0, 235.0]);
    let errors: Vec<_> = attempts.iter().map(|attempt| attempt["error"].as_str()).collect();
    assert_eq!(errors, [Some("status"), Some("status"), Some("timeout_headers"), Some("reset"), None]);
    assert_eq!(attempts[1]["answer"], json!({"status": 429, "retry_after": 100}));
    assert_eq!(
        simulation["end"],
        json!({"status": "succeeded", "dead_reason": null, "after_seconds": 235.0})
    );

    let (_, gone, _) = simulate(json!([500, 410])).await;
    assert_eq!(gone["end"], json!({"status": "dead", "dead_reason": "gone", "after_seconds": 10.0}));
    let (_, failed, _) = simulate(json!([500])).await;
    assert_eq!(failed["end"]["dead_reason"], "attempts_used_up");
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 5);
    let (status, _, problem) = simulate(json!([500, "explode"])).await;
    assert_eq!((status, fields(&problem)), (422, vec!["script[1]"]), "{problem}");
}

#[tokio::test]
async fn an_event_alone_shows_what_becomes_of_it_everywhere() {
    let server = TestServer::start().await;
    for (uid, pattern) in [("shop", "order.*"), ("crm", "user.*")] {
        let body = json!({"url": "http://127.0.0.1:9/", "events": [pattern], "uid": uid});
        assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 201);
    }
    let event = json!({"event": {"event": "order.paid", "data": {"n": 1}}});
    let (status, answer) = server.api.post("/v1/simulate", &event).await;
    assert_eq!((status, &answer["truncated"]), (200, &json!(false)), "{answer}");
    let reasons: Vec<_> = answer["data"].as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, ["matched", "pattern"], "those that match come first");
    assert_eq!(header(&answer["data"][0], "webhook-signature"), "***", "no secret was read");
    let (_, trail) = server.api.get("/v1/audit?action=secret.read").await;
    assert_eq!(trail["data"], json!([]));
    assert_eq!(server.tenant("other").post("/v1/simulate", &event).await.1["data"], json!([]));
}
