//! Payloads in memory: a program holds each once, and no more bytes of them than its settings allow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::Method;
use postrider_testkit::{Api, eventually};
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{idle, list, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::exposition::{Exposition, sums};

const MB: usize = 1_000_000;
const MIB: u64 = 1024;

/// The memory of a program that does little, in KiB.
const BASE: u64 = 50 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_one_event_share_its_payload() {
    const EVENTS: usize = 20;
    const SUBSCRIBERS: usize = 20;
    let deployment = Deployment::with(1, &[]).await;
    let slow = Sink::start(Some(Duration::from_secs(3))).await;
    for number in 0..SUBSCRIBERS {
        let url = slow.url(&format!("/{number}"));
        subscribe_with(&deployment.api, json!({"url": url, "events": ["*"]})).await;
    }
    for _ in 0..EVENTS {
        dispatch(&deployment.api, "large", MB).await;
    }
    slow.wait_for(EVENTS * SUBSCRIBERS).await;
    idle(&deployment.api).await;
    assert_eq!(slow.bodies.load(Ordering::SeqCst), EVENTS * SUBSCRIBERS * body_length("large", MB));
    succeeded(&deployment.api, "large", EVENTS * SUBSCRIBERS).await;
    let kib = deployment.workers[0].peak_memory();
    println!("the worker's peak: {} MiB", kib / MIB);
    // The twenty payloads take 20 MB; some are being read.
    assert!(kib < BASE + 50 * MIB, "the worker used {kib} KiB");
    deployment.stop().await;
}

/// Slow receivers of large payloads hold up neither small payloads nor one that is larger than all the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_bounds_the_payloads_that_it_holds() {
    const LARGE: usize = 60;
    const SMALL: usize = 20;
    let own = [
        ("POSTRIDER_PAYLOAD_MEMORY", "4MiB"),
        ("POSTRIDER_BODY_LIMIT", "8MiB"),
        ("POSTRIDER_CONCURRENCY", "32"),
        ("POSTRIDER_REQUEST_MEMORY", "16MiB"),
        // The large requests stay open until the small ones have arrived.
        ("POSTRIDER_REQUEST_TIMEOUT", "5m"),
    ];
    let deployment = Deployment::with(1, &own).await;
    let (slow, quick) = (Sink::start(None).await, Sink::start(Some(Duration::ZERO)).await);
    for event in ["large", "huge"] {
        // More subscribers than one, because none may have all worker slots.
        for number in 0..2 {
            let url = slow.url(&format!("/{event}/{number}"));
            subscribe_with(&deployment.api, json!({"url": url, "events": [event]})).await;
        }
    }
    subscribe_with(&deployment.api, json!({"url": quick.url("/small"), "events": ["small"]})).await;
    dispatch(&deployment.api, "huge", 6 * MB).await;
    for _ in 0..LARGE {
        dispatch(&deployment.api, "large", MB).await;
    }
    let waiting = || async {
        let metrics = [Exposition::of(&deployment.workers[0].telemetry).await];
        let held = sums(&metrics, "webhook_payload_bytes", &[]).values().sum::<f64>();
        assert!(held <= 6.2 * 1e6, "{held} bytes are held");
        let waiting = sums(&metrics, "webhook_payloads_waiting", &[]);
        (waiting.values().sum::<f64>() >= 8.0).then_some(())
    };
    eventually(DEADLINE, waiting).await;
    for _ in 0..SMALL {
        dispatch(&deployment.api, "small", 1000).await;
    }
    quick.wait_for(SMALL).await;
    assert_eq!(slow.answered(), 0, "small payloads wait for no large ones");
    slow.open.send_replace(Some(Duration::from_millis(200)));
    slow.wait_for(2 * (LARGE + 1)).await;
    idle(&deployment.api).await;
    succeeded(&deployment.api, "large", 2 * LARGE).await;
    succeeded(&deployment.api, "huge", 2).await;
    let kib = deployment.workers[0].peak_memory();
    println!("the worker's peak: {} MiB", kib / MIB);
    assert!(kib < BASE + 40 * MIB, "the worker used {kib} KiB");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_bounds_the_bodies_that_it_reads() {
    const EVENTS: usize = 400;
    let deployment = Deployment::with(0, &[("POSTRIDER_REQUEST_MEMORY", "16MiB")]).await;
    let api = &deployment.api;
    let body = json!({"event": "large", "data": {"text": "x".repeat(MB)}});
    let body = Arc::new(body.to_string());
    println!("the server's memory before: {} MiB", deployment.server.peak_memory() / MIB);
    let mut posts = JoinSet::new();
    for _ in 0..EVENTS {
        let (api, body) = (api.clone(), Arc::clone(&body));
        // A slow machine does not store all of them within the longest wait.
        posts.spawn(async move {
            eventually(2 * DEADLINE, || async {
                let json = [("content-type", "application/json")];
                let body = body.as_bytes().to_vec();
                // A client that takes too long to send what is rejected misses the answer.
                let answer = api.try_send(Method::POST, "/v1/events", &json, body).await.ok()?;
                if answer.status == 503 {
                    assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                    return None;
                }
                assert_eq!(answer.status, 202, "{}", answer.text());
                Some(())
            })
            .await;
        });
    }
    while let Some(post) = posts.join_next().await {
        post.unwrap();
    }
    let kib = deployment.server.peak_memory();
    println!("the server's peak after the writes: {} MiB", kib / MIB);
    // Lists do not contain the data; single events do, and their readers share the memory with the others.
    let events = list(api, "/v1/events?limit=40").await;
    let mut reads = JoinSet::new();
    for event in events {
        let (api, path) = (api.clone(), format!("/v1/events/{}", text(&event["id"])));
        reads.spawn(async move {
            eventually(2 * DEADLINE, || async {
                let (status, event) = api.get(&path).await;
                (status == 200).then(|| event["data"]["text"].as_str().map(str::len))
            })
            .await
        });
    }
    while let Some(length) = reads.join_next().await {
        assert_eq!(length.unwrap(), Some(MB));
    }
    let kib = deployment.server.peak_memory();
    println!("the server's peak: {} MiB", kib / MIB);
    assert!(kib < BASE + 90 * MIB, "the server used {kib} KiB");
    deployment.stop().await;
}

/// The server holds neither the subscribers of an event nor its deliveries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_holds_a_step_of_an_event_with_many_subscribers() {
    const EVENTS: usize = 8;
    const SUBSCRIBERS: usize = 5_000;
    let deployment = Deployment::with(0, &[]).await;
    let api = &deployment.api;
    subscribe_with(api, json!({"url": "http://127.0.0.1:1/", "events": ["*"]})).await;
    let connection = deployment.database.connection();
    for sql in [
        format!(
            "INSERT INTO subscribers (id, tenant, url, description, secret, policy, active, created_at, updated_at) \
            SELECT gen_random_uuid(), tenant, url, description, secret, policy, active, created_at, updated_at \
            FROM subscribers, generate_series(2, {SUBSCRIBERS})"
        ),
        "INSERT INTO subscriptions (tenant, pattern, subscriber_id) \
            SELECT tenant, '*', id FROM subscribers ON CONFLICT DO NOTHING"
            .to_owned(),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
    let before = deployment.server.peak_memory();
    let mut posts = JoinSet::new();
    for _ in 0..EVENTS {
        let api = api.clone();
        posts.spawn(async move { api.post("/v1/events", &json!({"event": "news", "data": {}})).await });
    }
    let mut events = Vec::new();
    for (status, answer) in posts.join_all().await {
        assert_eq!((status, &answer["subscribers_found"]), (202, &json!(SUBSCRIBERS)), "{answer}");
        events.push(text(&answer["id"]).to_owned());
    }
    for event in events {
        eventually(4 * DEADLINE, || async {
            let event = read(api, &format!("/v1/events/{event}")).await;
            (event["fan_out"] == "complete").then(|| assert_eq!(event["jobs_created"], json!(SUBSCRIBERS)))
        })
        .await;
    }
    let stats = read(api, "/v1/stats").await;
    assert_eq!(stats["deliveries"]["pending"], json!(EVENTS * SUBSCRIBERS), "{stats}");
    let kib = deployment.server.peak_memory();
    println!("the server's peak: {} MiB, before: {} MiB", kib / MIB, before / MIB);
    assert!(kib < before + 20 * MIB, "the server used {kib} KiB, {before} before");
    deployment.stop().await;
}

/// Dispatches an event whose data has this many bytes.
async fn dispatch(api: &Api, event: &str, bytes: usize) {
    let (status, answer) =
        api.post("/v1/events", &json!({"event": event, "data": {"text": "x".repeat(bytes)}})).await;
    assert_eq!(status, 202, "{answer}");
}

/// The length of the envelope of such an event.
fn body_length(event: &str, bytes: usize) -> usize {
    let envelope =
        format!(r#"{{"event":"{event}","timestamp":1234567890,"agent_id":"default","data":{{"text":""}}}}"#);
    envelope.len() + bytes
}

/// Checks that all deliveries of events of a type have succeeded at the first attempt.
async fn succeeded(api: &Api, event: &str, count: usize) {
    let stats = read(api, &format!("/v1/stats?event={event}")).await;
    assert_eq!(stats["deliveries"]["succeeded"], json!(count), "{stats}");
}

/// A receiver that discards what it reads and answers 200 after a delay, once it has one.
struct Sink {
    address: SocketAddr,
    answered: Arc<AtomicUsize>,
    /// The bytes of all bodies.
    bodies: Arc<AtomicUsize>,
    open: watch::Sender<Option<Duration>>,
    _connections: JoinSet<()>,
}

impl Sink {
    async fn start(delay: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answered, bodies) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (open, delay) = watch::channel(delay);
        let counters = (Arc::clone(&answered), Arc::clone(&bodies));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answered, bodies) = counters.clone();
                let delay = delay.clone();
                connections.spawn(async move {
                    // Ends when the worker closes the connection.
                    let _ = discard(stream, delay, &answered, &bodies).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, answered, bodies, open, _connections: accepting }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, requests: usize) {
        eventually(2 * DEADLINE, || async { (self.answered() >= requests).then_some(()) }).await;
    }
}

async fn discard(
    stream: TcpStream,
    mut delay: watch::Receiver<Option<Duration>>,
    answered: &AtomicUsize,
    bodies: &AtomicUsize,
) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = (&mut stream).take(length);
        tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await?;
        bodies.fetch_add(usize::try_from(length).unwrap_or(0), Ordering::SeqCst);
        let delay = delay.wait_for(Option::is_some).await.ok().and_then(|delay| *delay);
        tokio::time::sleep(delay.unwrap_or_default()).await;
        answered.fetch_add(1, Ordering::SeqCst);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    }
}
