use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::{KEY, TestServer, fields};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_invalid_event_is_refused_and_its_field_is_named() {
    let server = TestServer::start().await;
    let long = "a".repeat(129);
    for (body, wrong) in [
        (json!({}), &["event", "data"][..]),
        (json!({"data": {}}), &["event"]),
        (json!({"event": "", "data": {}}), &["event"]),
        (json!({"event": "order created", "data": {}}), &["event"]),
        (json!({"event": "order/created", "data": {}}), &["event"]),
        (json!({"event": "é", "data": {}}), &["event"]),
        (json!({"event": "order.*", "data": {}}), &["event"]),
        (json!({"event": long, "data": {}}), &["event"]),
        (json!({"event": null, "data": {}}), &["event"]),
        (json!({"event": 1, "data": {}}), &["event"]),
        (json!({"event": "a"}), &["data"]),
        (json!({"event": "a", "data": "text"}), &["data"]),
        (json!({"event": "a", "data": 1}), &["data"]),
        (json!({"event": "a", "data": true}), &["data"]),
        (json!({"event": "a", "data": null}), &["data"]),
        (json!({"event": "a", "data": {}, "agent_id": ""}), &["agent_id"]),
        (json!({"event": "a", "data": {}, "agent_id": "a\r\nx: y"}), &["agent_id"]),
        (json!({"event": "a", "data": {}, "agent_id": 7}), &["agent_id"]),
        (json!({"event": "a", "data": {}, "id": ""}), &["id"]),
        (json!({"event": "a", "data": {}, "id": "é"}), &["id"]),
        (json!({"event": "a", "data": {}, "id": "a".repeat(256)}), &["id"]),
        (json!({"event": "a", "data": {}, "dta": {}}), &["dta"]),
        (json!({"event": "a b", "data": 1, "agent_id": " "}), &["event", "data", "agent_id"]),
        (json!([]), &["body"]),
        (json!("text"), &["body"]),
    ] {
        let answer = server.api.post_raw("/v1/events", body.to_string()).await;
        let problem = answer.json();
        assert_eq!(answer.status, 422, "{body}: {problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(fields(&problem), wrong, "{body}: {problem}");
        assert_eq!(problem["title"], "Unprocessable Entity");
        assert_eq!(problem["status"], 422);
        server.assert_empty(&body.to_string()).await;
    }
}

#[tokio::test]
async fn an_invalid_subscriber_is_refused_and_its_field_is_named() {
    let server = TestServer::start().await;
    let with = |field: &str, value: Value| {
        let mut body = json!({"url": "https://127.0.0.1/hook", "events": ["*"]});
        body[field] = value;
        body
    };
    for (body, wrong) in [
        (json!({}), &["url", "events"][..]),
        (with("url", json!(null)), &["url"]),
        (with("url", json!("")), &["url"]),
        (with("url", json!("/hook")), &["url"]),
        (with("url", json!("ftp://example.com/")), &["url"]),
        (with("url", json!("file:///etc/passwd")), &["url"]),
        (with("url", json!("https://")), &["url"]),
        (with("url", json!("https://user:pass@example.com/")), &["url"]),
        (with("url", json!("https://example.com/#part")), &["url"]),
        (with("url", json!("http://10.0.0.1/")), &["url"]),
        (with("url", json!("http://169.254.169.254/latest/meta-data")), &["url"]),
        (with("url", json!("http://[::1]/")), &["url"]),
        (with("url", json!("http://0xa000001/")), &["url"]),
        (with("url", json!("http://127.0.0.1:22/")), &["url"]),
        (with("events", json!([])), &["events"]),
        (with("events", json!(["*"].repeat(101))), &["events"]),
        (with("events", json!("*")), &["events"]),
        (with("events", json!(["ok", "not ok", "o*"])), &["events[1]", "events[2]"]),
        (with("events", json!(["ok", 1])), &["events[1]"]),
        (with("secret", json!("short")), &["secret"]),
        (with("secret", json!("whsec_!!!!!!!!")), &["secret"]),
        (with("secret", json!("a".repeat(257))), &["secret"]),
        (with("description", json!("a".repeat(1001))), &["description"]),
        (with("description", json!("a\u{0}b")), &["description"]),
        (with("headers", json!({"Host": "internal"})), &["headers"]),
        (with("headers", json!({"x-a": "1\r\nx-b: 2"})), &["headers"]),
        (with("headers", json!({"webhook-id": "1"})), &["headers"]),
        (with("headers", json!({"x-a": 1})), &["headers.x-a"]),
        (with("headers", json!(["x-a"])), &["headers"]),
        (with("active", json!("yes")), &["active"]),
        (with("policy", json!({"max_attempts": 31})), &["policy.max_attempts"]),
        (with("policy", json!({"timeout": "2h"})), &["policy.timeout"]),
        (with("policy", json!({"rate_limit": {"per_second": 0}})), &["policy.rate_limit.per_second"]),
        (with("policy", json!({"retries": 3})), &["policy.retries"]),
        (with("policy", json!([])), &["policy"]),
        (with("policy", json!([3])), &["policy"]),
        (with("policy", json!({"rate_limit": [50, 10]})), &["policy.rate_limit"]),
        (with("policy", json!({"exponential": ["1s", 2, "1m"]})), &["policy.exponential"]),
        (with("policy", json!({"max_attempts": "three"})), &["policy.max_attempts"]),
        (with("sekret", json!("12345678")), &["sekret"]),
    ] {
        let (status, problem) = server.api.post("/v1/subscribers", &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert_eq!(fields(&problem), wrong, "{body}: {problem}");
        server.assert_empty(&body.to_string()).await;
    }
    let twice = r#"{"url":"https://127.0.0.1/","events":["*"],"headers":{"x-a":"1","X-A":"2"}}"#;
    let answer = server.api.post_raw("/v1/subscribers", twice).await;
    assert_eq!((answer.status, fields(&answer.json())), (422, vec!["headers"]));
    server.assert_empty("a header given twice").await;
}

#[tokio::test]
async fn broken_json_is_a_bad_request() {
    let server = TestServer::start().await;
    for body in
        ["", "{", "nonsense", r#"{"event":"a","data":{}}x"#, r#"{"event":"a","data":{"a":}}"#, "{'event':1}"]
    {
        let answer = server.api.post_raw("/v1/events", body).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let answer = server.api.post_raw("/v1/events", &b"{\"event\":\"a\",\"data\":{\"a\":\"\xff\"}}"[..]).await;
    assert_eq!(answer.status, 400, "not UTF-8");
    server.assert_empty("broken JSON").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = TestServer::with(|config| postrider_server::Config { body_limit: 4096, ..config }).await;
    let of = |size: usize| {
        let start = r#"{"event":"a","data":{"a":""#;
        let end = r#""}}"#;
        format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()))
    };
    for path in ["/v1/events", "/v1/events/batch", "/v1/subscribers"] {
        let answer = server.api.post_raw(path, of(4097)).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
        assert_eq!(answer.json()["title"], "Payload Too Large");
    }
    let answer = server.api.post_raw("/v1/events", of(1024 * 1024)).await;
    assert_eq!(answer.status, 413, "also far over the limit the answer arrives");
    server.assert_empty("a large body").await;
    assert_eq!(server.api.post_raw("/v1/events", of(4096)).await.status, 202, "the limit itself is allowed");
}

#[tokio::test]
async fn the_content_type_must_be_json() {
    let server = TestServer::start().await;
    let body = r#"{"event":"a","data":{}}"#;
    for headers in
        [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/x-www-form-urlencoded")]]
    {
        let answer = server.api.send(Method::POST, "/v1/events", headers, body).await;
        assert_eq!(answer.status, 415, "{headers:?}: {}", answer.text());
    }
    server.assert_empty("another media type").await;
    let headers = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(server.api.send(Method::POST, "/v1/events", &headers, body).await.status, 202);
}

#[tokio::test]
async fn a_request_without_the_key_has_no_effect() {
    let server = TestServer::start().await;
    let anybody = server.without_key();
    let body = r#"{"event":"a","data":{}}"#;
    let wrong = format!("Bearer {}", "x".repeat(KEY.len()));
    let basic = format!("Basic {KEY}");
    let longer = format!("Bearer {KEY}x");
    for authorization in [None, Some(wrong.as_str()), Some(&basic), Some(&longer), Some("Bearer"), Some("")] {
        let mut headers = vec![JSON];
        headers.extend(authorization.map(|value| ("authorization", value)));
        for (method, path) in
            [(Method::POST, "/v1/events"), (Method::GET, "/v1/stats"), (Method::PUT, "/v1/events")]
        {
            let answer = anybody.send(method.clone(), path, &headers, body).await;
            assert_eq!(answer.status, 401, "{method} {path} {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert!(!answer.text().contains(KEY));
        }
    }
    server.assert_empty("a wrong key").await;
}

#[tokio::test]
async fn an_invalid_tenant_is_a_problem_of_its_header() {
    let server = TestServer::start().await;
    for tenant in ["Acme Corp", "acme/corp", "ACME", &"a".repeat(65)] {
        let (status, problem) =
            server.tenant(tenant).post("/v1/events", &json!({"event": "a", "data": {}})).await;
        assert_eq!((status, fields(&problem)), (422, vec!["X-Tenant-ID"]), "{tenant}");
    }
    server.assert_empty("an odd tenant").await;
}

#[tokio::test]
async fn the_id_and_the_header_must_agree() {
    let server = TestServer::start().await;
    let body = r#"{"event":"a","data":{},"id":"one"}"#;
    let answer = server.api.send(Method::POST, "/v1/events", &[JSON, ("idempotency-key", "two")], body).await;
    assert_eq!((answer.status, fields(&answer.json())), (422, vec!["id"]));
    let answer = server
        .api
        .send(Method::POST, "/v1/events", &[JSON, ("idempotency-key", "")], r#"{"event":"a","data":{}}"#)
        .await;
    assert_eq!((answer.status, fields(&answer.json())), (422, vec!["Idempotency-Key"]));
    server.assert_empty("ids that differ").await;
    let answer = server.api.send(Method::POST, "/v1/events", &[JSON, ("idempotency-key", "one")], body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[tokio::test]
async fn the_size_of_a_batch_is_bounded() {
    let server = TestServer::start().await;
    let many = vec![json!({"event": "a", "data": {}}); 1001];
    for (body, wrong) in [
        (json!({}), "events"),
        (json!({"events": []}), "events"),
        (json!({"events": many}), "events"),
        (json!({"events": {}}), "events"),
        (json!({"events": [], "more": 1}), "more"),
    ] {
        let (status, problem) = server.api.post("/v1/events/batch", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]));
    }
    let headers = [JSON, ("idempotency-key", "one")];
    let body = r#"{"events":[{"event":"a","data":{}}]}"#;
    let answer = server.api.send(Method::POST, "/v1/events/batch", &headers, body).await;
    assert_eq!((answer.status, fields(&answer.json())), (422, vec!["Idempotency-Key"]));
    server.assert_empty("batches out of bounds").await;
}

#[tokio::test]
async fn requests_to_requeue_and_recover_are_validated() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["*"]).await;
    let recover = format!("/v1/subscribers/{}/recover", subscriber["id"].as_str().unwrap());
    let requeue = "/v1/dead-letters/requeue";
    let id = "dlv_01h455vb4pex5vsknk084sn02q";
    for (path, body, wrong) in [
        (requeue, json!({"ids": ["1"]}), "ids[0]"),
        (requeue, json!({"ids": vec![id; 1001]}), "ids"),
        (requeue, json!({"subscriber_id": id}), "subscriber_id"),
        (requeue, json!({"event": "a b"}), "event"),
        (requeue, json!({"since": "yesterday"}), "since"),
        (requeue, json!({"keep_attempts": "yes"}), "keep_attempts"),
        (requeue, json!({}), "all"),
        (requeue, json!({"id": id}), "id"),
        (&recover, json!({}), "since"),
        (&recover, json!({"since": 1, "until": []}), "until"),
    ] {
        let (status, problem) = server.api.post(path, &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{path}: {problem}");
    }
    let nothing = (202, json!({"requeued": 0, "without_payload": 0, "more": false}));
    assert_eq!(server.api.post(requeue, &json!({"ids": [id], "since": 1_700_000_000})).await, nothing);
    assert_eq!(server.api.post(&recover, &json!({"since": "2026-01-01T00:00:00Z"})).await, nothing);
}

/// Behind a proxy that appends a header of its own, the caller would choose the tenant.
#[tokio::test]
async fn a_header_that_must_be_unambiguous_is_refused_if_it_is_given_twice() {
    let server = TestServer::start().await;
    for header in ["X-Tenant-ID", "Authorization", "Idempotency-Key"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n{header}: one\r\n\
            {header}: two\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let named = format!("`{}` is given twice", header.to_ascii_lowercase());
        assert!(answer.contains(&named), "{answer}");
    }
}

#[tokio::test]
async fn an_empty_filter_does_not_select_everything() {
    let server = TestServer::start().await;
    for path in ["/v1/deliveries?subscriber_id=", "/v1/dead-letters?since=", "/v1/events?limit="] {
        let (status, problem) = server.api.get(path).await;
        assert_eq!(status, 422, "{path}: {problem}");
    }
}

/// In the header of every answer, and in every problem.
#[tokio::test]
async fn an_answer_names_its_request() {
    let server = TestServer::start().await;
    let of = async |path: &str, id: Option<&str>| {
        let headers: Vec<_> = id.map(|id| ("x-request-id", id)).into_iter().collect();
        let answer = server.api.send(Method::GET, path, &headers, "").await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        (answer.status, id, answer.json()["request_id"].as_str().map(str::to_owned))
    };
    assert_eq!(of("/v1/events", Some("mine-1")).await, (200, "mine-1".into(), None));
    assert_eq!(of("/v1/events?limit=0", Some("mine-2")).await, (422, "mine-2".into(), Some("mine-2".into())));
    let (status, id, named) = of("/v1/unknown", Some("not allowed")).await;
    assert_eq!((status, named.as_deref()), (404, Some(&*id)));
    assert!(id.starts_with("req_"), "{id}");
    let without_key = server.without_key().send(Method::GET, "/v1/events", &[], "").await;
    assert_eq!(without_key.json()["request_id"], without_key.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn query_parameters_are_validated() {
    let server = TestServer::start().await;
    let now = server.store.ids().clock().now().seconds();
    let old = |days: i64, query: &str| {
        let from = now - days * 86_400 - 60;
        format!("/v1/stats/series?from={from}&to={}&{query}", from + 60)
    };
    let one = "subscriber_id=sub_01h455vb4pex5vsknk084sn02q";
    for (path, wrong) in [
        ("/v1/events?limit=0", "limit"),
        ("/v1/events?limit=251", "limit"),
        ("/v1/events?limit=many", "limit"),
        ("/v1/events?cursor=abc", "cursor"),
        ("/v1/events?cursor=sub_01h455vb4pex5vsknk084sn02q", "cursor"),
        ("/v1/events?event=a%20b", "event"),
        ("/v1/events?events=a", "events"),
        ("/v1/events?limit=1&limit=2", "limit"),
        ("/v1/subscribers?limit=-1", "limit"),
        ("/v1/deliveries?subscriber_id=1", "subscriber_id"),
        ("/v1/deliveries?event_id=sub_01h455vb4pex5vsknk084sn02q", "event_id"),
        ("/v1/deliveries?status=done", "status"),
        ("/v1/deliveries?response_code=99", "response_code"),
        ("/v1/deliveries?since=yesterday", "since"),
        ("/v1/deliveries?until=2026-13-01T00:00:00Z", "until"),
        ("/v1/dead-letters?status=dead", "status"),
        ("/v1/stats?since=x", "since"),
        ("/v1/stats/series?from=yesterday", "from"),
        ("/v1/stats/series?from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "from"),
        ("/v1/stats/series?from=4000000000", "from"),
        ("/v1/stats/series?to=x", "to"),
        ("/v1/stats/series?to=-9223372036854775808", "to"),
        ("/v1/stats/series?step=often", "step"),
        ("/v1/stats/series?step=59", "step"),
        ("/v1/stats/series?step=90", "step"),
        ("/v1/stats/series?step=0", "step"),
        ("/v1/stats/series?step=86460", "step"),
        ("/v1/stats/series?step=2d", "step"),
        ("/v1/stats/series?step=99999999999999999d", "step"),
        // More steps than the maximum.
        ("/v1/stats/series?from=1700000000&step=1d&to=1900000000", "step"),
        ("/v1/stats/series?from=0&to=253402300799&step=1d", "step"),
        // Nothing that long ago is stored by the day.
        ("/v1/stats/series?from=1700000000&to=1700003600&step=1d", "from"),
        // Minutes and hours that long ago are not stored.
        (&old(3, "step=1m"), "step"),
        (&old(61, "step=1h"), "step"),
        (&old(15, &format!("step=1h&{one}")), "step"),
        (&old(0, &format!("step=1h&event=a&{one}")), "step"),
        ("/v1/stats/series?subscriber_id=1", "subscriber_id"),
        ("/v1/stats/series?event=a%20b", "event"),
        ("/v1/stats/series?since=1700000000", "since"),
    ] {
        let (status, problem) = server.api.get(path).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{path}: {problem}");
    }
}

#[tokio::test]
async fn an_unknown_path_or_object_is_a_problem_document() {
    let server = TestServer::start().await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/v1", 404),
        (Method::GET, "/v1/nothing", 404),
        (Method::GET, "/v1/events/evt_01h455vb4pex5vsknk084sn02q", 404),
        (Method::GET, "/v1/events/nonsense", 404),
        (Method::GET, "/v1/events/%ff", 404),
        (Method::PATCH, "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q", 404),
        (Method::DELETE, "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q", 404),
        (Method::GET, "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q/secret", 404),
        (Method::POST, "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q/secret/rotate", 404),
        (Method::POST, "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q/activate", 404),
        (Method::GET, "/v1/deliveries/dlv_01h455vb4pex5vsknk084sn02q", 404),
        (Method::GET, "/v1/deliveries/dlv_01h455vb4pex5vsknk084sn02q/attempts", 404),
        (Method::POST, "/v1/deliveries/dlv_01h455vb4pex5vsknk084sn02q/retry", 404),
        (Method::POST, "/v1/deliveries/dlv_01h455vb4pex5vsknk084sn02q/cancel", 404),
        (Method::PUT, "/v1/events", 405),
        (Method::DELETE, "/v1/stats", 405),
        (Method::POST, "/docs", 405),
    ] {
        let answer = server.api.send(method.clone(), path, &[JSON], "{}").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let server = TestServer::start().await;
    let body = r#"{"event":"a","data":{}}"#;
    let json = ("content-type", "application/json");
    for (encoding, status) in [("gzip", 415), ("identity, br", 415), ("Identity", 202), ("", 415)] {
        let headers = [json, ("content-encoding", encoding)];
        let answer = server.api.send(Method::POST, "/v1/events", &headers, body).await;
        assert_eq!(answer.status, status, "{encoding:?}: {}", answer.text());
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn a_time_out_of_range_is_refused() {
    let server = TestServer::start().await;
    for since in ["1700000000000", "-1", "99999999999999999999"] {
        for list in ["deliveries", "dead-letters", "stats"] {
            let (status, problem) = server.api.get(&format!("/v1/{list}?since={since}")).await;
            assert_eq!((status, fields(&problem)), (422, vec!["since"]), "{list} {since}: {problem}");
        }
    }
}
