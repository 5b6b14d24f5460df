use std::time::Duration;

use postrider_core::TenantId;
use postrider_server::{Config, Parts, Server};
use postrider_store::PageRequest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{KEY, TestServer};

const DEADLINE: Duration = Duration::from_secs(10);
const BODY: &str = r#"{"event":"a","data":{}}"#;

async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("an end in time").expect("an answer");
    String::from_utf8_lossy(&text).into_owned()
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n"
    )
}

#[tokio::test]
async fn requests_in_flight_finish_at_shutdown() {
    let mut server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server has begun the request when it asks for the body.
    stream.write_all(format!("{}expect: 100-continue\r\n\r\n", head(BODY.len())).as_bytes()).await.unwrap();
    let mut go_on = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut go_on)).await.unwrap().unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");

    let idle = TcpStream::connect(server.address).await.unwrap();
    server.begin_stop();
    let store = server.store.clone();
    let address = server.address;
    postrider_testkit::eventually(DEADLINE, || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    stream.write_all(BODY.as_bytes()).await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.contains("HTTP/1.1 202"), "{text}");
    assert!(timeout(DEADLINE, server.stopped()).await.unwrap(), "nothing was cut off");
    drop(idle);
    let events = store.events(&TenantId::default(), None, PageRequest::default()).await.unwrap();
    assert_eq!(events.items.len(), 1);
}

#[tokio::test]
async fn requests_are_aborted_after_the_grace_period() {
    let server = TestServer::with(|config| Config { grace: Duration::from_millis(200), ..config }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{}expect: 100-continue\r\n\r\n", head(BODY.len())).as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    assert!(!timeout(DEADLINE, server.stopped()).await.unwrap(), "the body never came");
    let mut rest = Vec::new();
    // The connection is closed or reset.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_answered_at_once() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(format!("{}expect: 100-continue\r\nconnection: close\r\n\r\n", head(1 << 30)).as_bytes())
        .await
        .unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413"), "no 100 before it: {text}");
}

#[tokio::test]
async fn requests_over_the_limit_wait() {
    let server = TestServer::with(|config| Config { requests: 1, ..config }).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let api = server.api.clone();
        calls.spawn(async move { api.post("/v1/events", &json!({"event": "a", "data": {}})).await.0 });
    }
    assert_eq!(calls.join_all().await, [202; 20]);
}

#[tokio::test]
async fn an_unavailable_database_is_a_503_with_retry_after() {
    let server = TestServer::start().await;
    server.database.close().await;
    let bodies = [
        ("/v1/events", BODY.to_owned()),
        ("/v1/events/batch", format!(r#"{{"events":[{BODY},{BODY}]}}"#)),
        ("/v1/subscribers", r#"{"url":"http://127.0.0.1/","events":["*"]}"#.to_owned()),
    ];
    for (path, body) in bodies {
        let answer = server.api.post_raw(path, body).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{path}");
        let text = answer.text().to_lowercase();
        assert!(!text.contains("pool") && !text.contains("sql"), "no internals are shown: {text}");
    }
    assert_eq!(server.api.get("/v1/stats").await.0, 503);
}

#[tokio::test]
async fn a_taken_address_is_named_in_the_error() {
    let server = TestServer::start().await;
    let parts = Parts {
        store: server.store.clone(),
        dispatcher: server.dispatcher.clone(),
        targets: postrider_delivery::Client::new(postrider_delivery::Config::default()).unwrap(),
        telemetry: axum::Router::new(),
    };
    let config = Config::new(KEY.parse().unwrap());
    let error = Server::bind(server.address, config, parts).await.unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}

#[tokio::test]
async fn slow_bodies_take_no_place_and_get_408() {
    let server = TestServer::with(|config| Config { requests: 1, ..config }).await;
    let mut slow = Vec::new();
    for announced in [BODY.len(), 100_000] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("{}\r\n{{", head(announced)).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(server.event("a").await["jobs_created"], 0, "another request runs at once");
    for mut stream in slow {
        let text = answer(&mut stream).await;
        assert!(text.contains("HTTP/1.1 408") && text.contains("connection: close"), "{text}");
        assert!(text.contains("too slowly"), "{text}");
    }
}

#[tokio::test]
async fn a_body_has_no_longer_than_the_time_of_a_request() {
    let timeout = Duration::from_secs(1);
    let server = TestServer::with(|config| Config { request_timeout: timeout, ..config }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let fast = "{".repeat(100_000);
    stream.write_all(format!("{}\r\n{fast}", head(200_000)).as_bytes()).await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.contains("HTTP/1.1 408"), "{text}");
}

#[tokio::test]
async fn a_client_that_reads_no_answer_loses_its_place() {
    let server = TestServer::with(|config| Config { connections: 1, ..config }).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    deaf.write_all(request.as_bytes()).await.unwrap();
    // The server holds the only place for it until the answers that it does not read have waited for 20 s.
    let waiting = timeout(4 * DEADLINE, server.event("a")).await.expect("a place after all");
    assert_eq!(waiting["jobs_created"], 0);
    drop(deaf);
}

#[tokio::test]
async fn a_client_has_no_more_connections_than_it_may() {
    let server = TestServer::with(|config| Config { connections_per_address: Some(2), ..config }).await;
    let get = "GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut allowed = Vec::new();
    for _ in 0..2 {
        allowed.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    let _ = refused.write_all(get.as_bytes()).await;
    let mut nothing = Vec::new();
    let ended = timeout(DEADLINE, refused.read_to_end(&mut nothing)).await.expect("an end in time");
    assert!(ended.is_err() || nothing.is_empty(), "it is closed without an answer");
    for mut stream in allowed {
        stream.write_all(get.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let server = TestServer::start().await;
    let key = format!("authorization: Bearer {KEY}\r\n");
    for (request, status) in [
        (format!("GET /v1/events HTTP/1.1\r\nconnection: close\r\n{key}\r\n"), "400"),
        (format!("GET /v1/events HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n{key}\r\n"), "400"),
        (format!("GET /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{key}\r\n"), "200"),
        // Before HTTP/1.1 there was no such header.
        (format!("GET /v1/events HTTP/1.0\r\n{key}\r\n"), "200"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let text = answer(&mut stream).await;
        assert_eq!(text.split(' ').nth(1), Some(status), "{request:?}: {text}");
    }
}
