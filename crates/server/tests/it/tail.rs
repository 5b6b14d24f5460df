//! The live tail, as a client of the crate `postrider-client` sees it.

use std::time::Duration;

use postrider_api::tail::TailQuery;
use postrider_client::{Client, Config as ClientConfig, EventStream, ServerEvent};
use postrider_core::DeliveryStatus;
use postrider_database::Config as DatabaseConfig;
use postrider_server::Config;
use postrider_testkit::{TestDatabase, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::api::{KEY, TestServer};
use crate::dead_letters::{USED_UP, end_all};
use crate::keys::{acme, made};

const DEADLINE: Duration = Duration::from_secs(20);

fn client(server: &TestServer, key: &str) -> Client {
    let url = format!("http://{}", server.address).parse().unwrap();
    Client::new(ClientConfig::new(url, Some(key))).unwrap()
}

async fn follow(server: &TestServer, query: TailQuery, last: Option<&str>) -> EventStream {
    client(server, KEY).tail(&query, last).await.unwrap()
}

async fn next(tail: &mut EventStream) -> ServerEvent {
    timeout(DEADLINE, tail.next()).await.expect("an event of the stream in time").unwrap().expect("no end")
}

fn data(event: &ServerEvent) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

/// Cancels the newest delivery.
async fn cancel(server: &TestServer) -> Value {
    let (_, page) = server.api.get("/v1/deliveries?limit=1").await;
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    let (status, cancelled) = server.api.post(&format!("/v1/deliveries/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 200, "{cancelled}");
    cancelled
}

#[tokio::test]
async fn what_happens_is_seen_as_in_the_lists() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["*"]).await;
    let mut all = follow(&server, TailQuery::default(), None).await;
    let orders = TailQuery { types: Some("order.*,b".to_owned()), ..TailQuery::default() };
    let mut orders = follow(&server, orders, None).await;
    let mine = TailQuery {
        subscriber_id: Some(one["id"].as_str().unwrap().parse().unwrap()),
        ..TailQuery::default()
    };
    let mut mine = follow(&server, mine, None).await;
    let dead = TailQuery { status: Some(DeliveryStatus::Dead), ..TailQuery::default() };
    let mut dead = follow(&server, dead, None).await;

    server.event("a").await;
    let event = next(&mut all).await;
    assert_eq!(event.name, "event");
    assert_eq!(data(&event), server.api.get("/v1/events").await.1["data"][0]);
    let cancelled = cancel(&server).await;
    let ended = next(&mut all).await;
    assert_eq!((ended.name.as_str(), data(&ended)), ("delivery", cancelled.clone()));
    assert_eq!(data(&next(&mut mine).await), cancelled, "events go to no subscriber");
    server.event("order.created").await;
    assert_eq!(data(&next(&mut orders).await)["event"], "order.created", "of the types only");

    // Nobody has died.
    assert!(timeout(Duration::from_millis(10), dead.next()).await.is_err());
    let foreign = server.tenant("other");
    foreign.post("/v1/events", &json!({"event": "order.foreign", "data": {}})).await;
    server.event("b").await;
    assert_eq!(data(&next(&mut orders).await)["event"], "b", "tenants are apart");

    for query in
        ["types=order*", "types=a,b,c,d,e,f,g,h,i,j,k", "status=lost", "subscriber_id=nobody", "color=red"]
    {
        let (status, problem) = server.api.get(&format!("/v1/tail?{query}")).await;
        assert_eq!(status, 422, "{query}: {problem}");
    }
}

#[tokio::test]
async fn a_viewer_goes_on_where_it_stopped() {
    let server = TestServer::start().await;
    let mut tail = follow(&server, TailQuery::default(), None).await;
    server.event("a").await;
    let first = next(&mut tail).await;
    drop(tail);
    for event in ["b", "c"] {
        server.event(event).await;
    }
    let mut tail = follow(&server, TailQuery::default(), Some(&first.id)).await;
    server.event("d").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "d") {
        let event = next(&mut tail).await;
        assert_eq!(event.name, "event", "{event:?}");
        seen.push(data(&event)["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["b", "c", "d"], "each once");
    // Of January 2023.
    let mut tail = follow(&server, TailQuery::default(), Some("tlr_01gnnxqxe0ecjs8tcbz31jvy16")).await;
    let mut names = Vec::new();
    while !names.contains(&"left_out".to_owned()) {
        let event = next(&mut tail).await;
        if event.name == "left_out" {
            assert_eq!(data(&event), json!({"count": null, "reason": "gap"}));
        }
        names.push(event.name);
    }
    let answer = server.api.send(http::Method::GET, "/v1/tail", &[("last-event-id", "nonsense")], "").await;
    assert_eq!(answer.status, 422);
}

#[tokio::test]
async fn a_viewer_is_told_what_it_was_not_sent() {
    let server = TestServer::start().await;
    // It reads nothing.
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /v1/tail HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
    deaf.write_all(request.as_bytes()).await.unwrap();
    deaf.read_exact(&mut [0; 12]).await.unwrap();
    let mut tail = follow(&server, TailQuery::default(), None).await;
    let events: Vec<_> = (0..300).map(|_| json!({"event": "a", "data": {}})).collect();
    assert_eq!(server.api.post("/v1/events/batch", &json!({"events": events})).await.0, 202);
    let (mut sent, mut left_out) = (0, 0);
    while sent + left_out < 300 {
        let event = next(&mut tail).await;
        if event.name == "left_out" {
            assert_eq!(data(&event)["reason"], "rate");
            left_out += data(&event)["count"].as_u64().unwrap();
        } else {
            sent += 1;
        }
    }
    assert_eq!(sent + left_out, 300);
    assert!((50..200).contains(&sent), "about 50 a second: {sent}");
}

#[tokio::test]
async fn a_tail_ends_with_its_key() {
    let server = TestServer::start().await;
    let (_, key) = made(&server, &server.api, &acme(&["tail:read", "events:read"])).await;
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let follower = client(&server, key["key"].as_str().unwrap());
    let mut first = follower.tail(&TailQuery::default(), None).await.unwrap();
    let ends = async |tail: &mut EventStream| {
        let last = next(tail).await;
        assert_eq!((last.name.as_str(), data(&last)), ("end", json!({"reason": "key"})));
        assert!(timeout(DEADLINE, tail.next()).await.unwrap().unwrap().is_none());
    };
    assert_eq!(server.api.patch(&path, &json!({"scopes": ["events:read"]})).await.0, 200);
    ends(&mut first).await;
    assert_eq!(server.api.patch(&path, &json!({"scopes": ["tail:read"]})).await.0, 200);
    let mut second = follower.tail(&TailQuery::default(), None).await.unwrap();
    assert_eq!(server.api.delete(&path).await.0, 204);
    ends(&mut second).await;
}

#[tokio::test]
async fn a_key_has_few_viewers_and_a_stop_ends_them() {
    let mut server = TestServer::with(|config| Config { grace: DEADLINE, ..config }).await;
    let mut tails = Vec::new();
    for _ in 0..20 {
        tails.push(follow(&server, TailQuery::default(), None).await);
    }
    let refused = server.api.send(http::Method::GET, "/v1/tail", &[], "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")));
    tails.truncate(10);
    eventually(DEADLINE, || async {
        let answer = server.api.send(http::Method::GET, "/v1/tail", &[], "").await;
        (answer.status == 200).then_some(())
    })
    .await;
    server.begin_stop();
    for tail in &mut tails {
        let last = next(tail).await;
        assert_eq!((last.name.as_str(), data(&last)), ("end", json!({"reason": "shutdown"})));
    }
    assert!(timeout(DEADLINE, server.stopped()).await.unwrap(), "nothing was cut off");
}

#[tokio::test]
async fn attempts_are_seen_on_both_databases() {
    for database in [TestDatabase::sqlite().await, TestDatabase::postgres().await] {
        let config = DatabaseConfig::new(database.url().parse().unwrap());
        let server = TestServer::over(database, config, |_| axum::Router::new(), |config| config).await;
        server.subscriber(&["*"]).await;
        let (_, key) =
            made(&server, &server.api, &json!({"name": "n", "tenant": "default", "scopes": ["tail:read"]}))
                .await;
        let mut plain =
            client(&server, key["key"].as_str().unwrap()).tail(&TailQuery::default(), None).await.unwrap();
        let mut tail = follow(&server, TailQuery::default(), None).await;
        let began = Instant::now();
        server.event("a").await;
        assert_eq!(next(&mut tail).await.name, "event");
        let took = began.elapsed();
        println!("an event was seen after {took:?}");
        end_all(&server, USED_UP).await;
        let (_, page) = server.api.get("/v1/deliveries").await;
        let delivery = &page["data"][0];
        let (_, attempts) =
            server.api.get(&format!("/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap())).await;
        let mut expected = attempts["data"][0].clone();
        for name in ["event_id", "event", "subscriber_id", "status"] {
            expected[name] = delivery[name].clone();
        }
        expected["delivery_id"] = delivery["id"].clone();
        let attempt = next(&mut tail).await;
        assert_eq!((attempt.name.as_str(), data(&attempt)), ("attempt", expected));
        assert_eq!(data(&attempt)["response"]["body"], "no");
        let ended = next(&mut tail).await;
        assert_eq!((ended.name.as_str(), &data(&ended)), ("delivery", delivery));
        // This key may not see payloads.
        assert_eq!(next(&mut plain).await.name, "event");
        let hidden = data(&next(&mut plain).await);
        assert_eq!(
            (&hidden["response"]["body"], &hidden["response"]["payload"]),
            (&json!(""), &json!("hidden"))
        );
    }
}
