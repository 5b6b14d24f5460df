//! Receivers inside Postrider: sandboxes over HTTP, and listeners.

use std::time::{Duration, Instant};

use postrider_core::signing::Signer;
use postrider_core::{Secret, TenantId};
use postrider_server::Config;
use postrider_testkit::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

async fn server() -> TestServer {
    TestServer::with(|config| Config { sandbox: true, ..config }).await
}

async fn created(api: &Api, body: Value) -> (String, String) {
    let (status, sandbox) = api.post("/v1/sandboxes", &body).await;
    assert_eq!(status, 201, "{sandbox}");
    (sandbox["id"].as_str().unwrap().to_owned(), sandbox["url"].as_str().unwrap().to_owned())
}

/// What the server sends until it closes the connection.
async fn raw(server: &TestServer, url: &str, headers: &str, body: &str) -> String {
    let path = url.split_once(&server.address.to_string()).expect("the listen address is the base").1;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_sandbox_answers_other_programs_by_its_script() {
    let server = server().await;
    let script = json!([{"status": 429, "retry_after": 7}, "reset", "cut", "redirect", 204]);
    let (id, url) = created(&server.api, json!({"script": script, "ttl": "1m"})).await;
    let body = json!({"url": url, "events": ["*"], "secret": "correct horse battery"});
    assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 201);
    let signer = Signer::new(&Secret::parse("correct horse battery").unwrap(), &[]);
    let now = server.store.ids().clock().now().seconds();
    let signature = signer.webhook_signature("msg_1", now, b"{\"a\":1}");
    let headers =
        format!("webhook-id: msg_1\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n");

    let answer = raw(&server, &url, &headers, "{\"a\":1}").await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 7\r\n"), "{answer}");
    assert_eq!(raw(&server, &url, &headers, "{\"a\": 1}").await, "", "the connection is closed");
    let answer = raw(&server, &url, "", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length: usize =
        head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!(body.len() < length, "the body is cut: {answer}");
    assert!(raw(&server, &url, "", "").await.starts_with("HTTP/1.1 302 "));
    for _ in 0..2 {
        assert!(raw(&server, &url, "", "").await.starts_with("HTTP/1.1 204 "), "the last step stays");
    }
    assert!(raw(&server, &url[..url.len() - 1], "", "").await.starts_with("HTTP/1.1 404 "));

    let path = format!("/v1/sandboxes/{id}/requests");
    let (status, list) = server.api.get(&path).await;
    assert_eq!((status, &list["received"]), (200, &json!(6)), "{list}");
    let request = &list["data"][0];
    assert_eq!(
        (&request["verified"], &request["webhook_id"], &request["body"]),
        (&json!(true), &json!("msg_1"), &json!("{\"a\":1}"))
    );
    let reason = |number: usize| list["data"][number]["signatures"][0]["reason"].clone();
    assert_eq!((reason(1), reason(2)), (json!("body_changed"), json!("missing")), "{list}");
    assert_eq!(list["data"][1]["answer"], "reset");
    assert_eq!(
        server.api.get(&format!("{path}?after=5&limit=1")).await.1["data"].as_array().unwrap().len(),
        1
    );

    let (reader, _) =
        made(&server, &server.api, &json!({"name": "n", "scopes": ["sandbox:use"], "tenant": "default"}))
            .await;
    let (_, hidden) = reader.get(&path).await;
    assert_eq!((&hidden["data"][0]["headers"], &hidden["data"][0]["body"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn a_test_waits_for_requests_and_says_what_it_expects() {
    let server = server().await;
    let (id, url) = created(&server.api, json!({})).await;
    let path = format!("/v1/sandboxes/{id}/requests");
    let started = Instant::now();
    let (status, list) = server.api.get(&format!("{path}?count=1&wait=300ms")).await;
    assert_eq!((status, &list["data"]), (200, &json!([])));
    assert!(started.elapsed() >= Duration::from_millis(300), "it waits");
    let (status, problem) = server.api.get(&format!("{path}?count=1&wait=0&expect=verified")).await;
    assert_eq!((status, fields(&problem)), (422, vec!["count"]), "{problem}");

    let waiting = format!("{path}?count=2&wait=20s");
    let (answer, ()) = tokio::join!(server.api.get(&waiting), async {
        for id in ["b", "a"] {
            assert!(
                raw(&server, &url, &format!("webhook-id: {id}\r\n"), "").await.starts_with("HTTP/1.1 200")
            );
        }
    });
    assert_eq!((answer.0, answer.1["data"].as_array().unwrap().len()), (200, 2), "{}", answer.1);
    assert_eq!(server.api.get(&format!("{path}?count=2&expect=unique")).await.0, 200);
    for (expect, wrong) in [("unique,ordered,verified", "ordered"), ("verified", "verified")] {
        let (status, problem) = server.api.get(&format!("{path}?expect={expect}")).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{problem}");
    }
    for wrong in ["expect=best", "wait=26s", "wait=soon", "count=201", "count=x"] {
        let (status, problem) = server.api.get(&format!("{path}?{wrong}")).await;
        let field = wrong.split('=').next().unwrap();
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{wrong}: {problem}");
    }
}

#[tokio::test]
async fn sandboxes_are_bounded_and_belong_to_their_tenant() {
    let server = server().await;
    for (body, wrong) in [
        (json!({"ttl": "5s"}), "ttl"),
        (json!({"ttl": "25h"}), "ttl"),
        (json!({"script": "x"}), "script"),
        (json!({"script": [200, 1000]}), "script[1]"),
    ] {
        let (status, problem) = server.api.post("/v1/sandboxes", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{problem}");
    }
    let acme = server.tenant("acme");
    let (id, url) = created(&acme, json!({})).await;
    // Only its tenant may have a subscriber there, though the address is forbidden.
    let elsewhere = url.replace(&format!("http://{}", server.address), "http://10.0.0.1");
    let token = url.rsplit('/').next().unwrap().to_owned();
    let sql = "UPDATE sandboxes SET url = $1 WHERE token = $2";
    let values = [elsewhere.clone().into(), token.into()];
    postrider_database::sql::execute(server.database.connection(), sql, values).await.unwrap();
    let subscriber = json!({"url": elsewhere, "events": ["*"]});
    assert_eq!(server.tenant("other").post("/v1/subscribers", &subscriber).await.0, 422);
    let (status, created_one) = acme.post("/v1/subscribers", &subscriber).await;
    assert_eq!(status, 201, "{created_one}");
    let path = format!("/v1/subscribers/{}", created_one["id"].as_str().unwrap());
    assert_eq!(acme.patch(&path, &json!({"url": elsewhere})).await.0, 200);

    for _ in 1..50 {
        created(&acme, json!({})).await;
    }
    assert_eq!(acme.post("/v1/sandboxes", &json!({})).await.0, 409, "there are 50");
    assert_eq!(acme.delete(&format!("/v1/sandboxes/{id}")).await.0, 204);
    assert_eq!(acme.get(&format!("/v1/sandboxes/{id}")).await.0, 404);
    assert_eq!(acme.get("/v1/sandboxes").await.1["data"].as_array().unwrap().len(), 49);

    let off = TestServer::with(|config| Config { sandbox: false, ..config }).await;
    assert_eq!(off.api.post("/v1/sandboxes", &json!({})).await.0, 409);
}

#[tokio::test]
async fn a_listener_streams_requests_and_takes_answers() {
    let server = server().await;
    let acme_key = json!({"name": "n", "tenant": "acme", "scopes": ["subscribers:write", "payloads:read"]});
    let (api, _) = made(&server, &server.api, &acme_key).await;
    let (status, listener) = api.post("/v1/listeners", &json!({"events": ["order.*"]})).await;
    assert_eq!(status, 201, "{listener}");
    let tenant: TenantId = "acme".parse().unwrap();
    let (id, subscriber) = (listener["id"].as_str().unwrap(), listener["subscriber_id"].as_str().unwrap());
    let stored = server.store.subscriber(&tenant, subscriber.parse().unwrap()).await.unwrap().unwrap();
    let token = stored.url.as_str().rsplit('/').next().unwrap().to_owned();

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let operator = crate::api::KEY;
    let request = format!(
        "GET /v1/listeners/{id}/requests HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {operator}\r\nx-tenant-id: acme\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = json!({
        "method": "POST", "headers": [["x-a", "b"]], "event_id": "evt_01h455vb4pex5vsknk084sn000", "event": "order.paid", "attempt": 1,
    });
    let wait = Duration::from_secs(20);
    let handover = server.store.hand_over(&tenant, &token, &head, b"hi", wait).await.unwrap().unwrap();
    let mut seen = String::new();
    while !seen.contains("event: request") || !seen.ends_with("\n\n\r\n") {
        let mut part = [0; 4096];
        let length = timeout(wait, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(length > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    let data = seen.split("event: request\ndata: ").nth(1).unwrap().lines().next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&data["id"], &data["body_base64"]), (&json!(handover.id), &json!("aGk=")));
    assert_eq!(data["headers"], json!([{"name": "x-a", "value": "b"}]));

    let answers = format!("/v1/listeners/{id}/answers");
    for (wrong, field) in [
        (json!({"id": handover.id}), "status"),
        (json!({"id": handover.id, "status": 200, "error": "reset"}), "status"),
        (json!({"id": "x", "status": 200}), "id"),
        (json!({"id": handover.id, "status": 200, "body_base64": "?"}), "body_base64"),
    ] {
        let (status, problem) = api.post(&answers, &wrong).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
    }
    let answer = json!({"id": handover.id, "status": 201});
    assert_eq!(api.post(&answers, &answer).await.0, 204);
    assert_eq!(api.post(&answers, &answer).await.0, 409, "it was answered");
    let (lacking, _) = made(&server, &server.api, &acme(&["subscribers:write"])).await;
    assert_eq!(lacking.post("/v1/listeners", &json!({})).await.0, 403);

    assert_eq!(api.delete(&format!("/v1/listeners/{id}")).await.0, 204);
    assert!(server.store.subscriber(&tenant, subscriber.parse().unwrap()).await.unwrap().is_none());
    let (_, trail) = server.tenant("acme").get("/v1/audit?action=subscriber.deleted").await;
    assert_eq!(trail["data"].as_array().unwrap().len(), 1, "{trail}");
    let ended = async {
        while !seen.contains("{\"reason\":\"ended\"}") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    };
    timeout(wait, ended).await.expect("the stream says that the listener has ended");
}
