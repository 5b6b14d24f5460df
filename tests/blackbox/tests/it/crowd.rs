//! Many receivers whose bodies never end: a worker's memory is bounded, and so is the time of every attempt.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use postrider_testkit::{Api, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, interval_at},
};

use crate::client::{attempts, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};

/// The number of attempts in flight at once: one for each event to each subscriber.
const ATTEMPTS: usize = 1000;
const SUBSCRIBERS: usize = 10;

/// The peak memory that a worker may use, including its program: 150 MiB.
const MOST_KIB: u64 = 150 * 1024;

/// The worker and the receiver need one per attempt; this process also has those of concurrent tests.
const DESCRIPTORS: u64 = 4096;

/// Timeouts of one attempt in seconds. A machine that cannot start all attempts within the first tries the next.
const TIMEOUTS: [u64; 3] = [10, 30, 60];

/// How often each receiver sends some more bytes.
const TRICKLE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_holds_a_thousand_endless_bodies_in_150_mib() {
    if let Err(reason) = raise_descriptors() {
        println!("skipped: {reason}");
        return;
    }
    let concurrency = ATTEMPTS.to_string();
    let deployment = Deployment::with(1, &[("POSTRIDER_CONCURRENCY", &concurrency)]).await;
    let trickle = Trickle::start().await;

    let mut peak = 0;
    for timeout in TIMEOUTS {
        attempt_all(&deployment.api, &trickle, timeout).await;
        peak = trickle.peak.swap(0, Ordering::SeqCst);
        if peak == ATTEMPTS {
            break;
        }
        println!("only {peak} attempts were in flight at once within {timeout} s");
    }
    assert_eq!(peak, ATTEMPTS, "in flight at once");

    let kib = deployment.workers[0].peak_memory();
    println!("the worker's peak: {} MiB", kib / 1024);
    assert!(kib < MOST_KIB, "the worker used {kib} KiB of memory");
    deployment.stop().await;
}

/// Makes the attempts, waits until they end, and checks each in the API.
async fn attempt_all(api: &Api, trickle: &Trickle, timeout: u64) {
    let per_subscriber = ATTEMPTS / SUBSCRIBERS;
    let event = format!("trickle.{timeout}");
    for number in 0..SUBSCRIBERS {
        let policy = json!({"timeout": timeout, "concurrency": per_subscriber, "max_attempts": 1});
        let url = format!("http://{}/{number}", trickle.address);
        subscribe_with(api, json!({"url": url, "events": [event], "policy": policy})).await;
    }
    let events = vec![json!({"event": event, "data": {}}); per_subscriber];
    let (status, answer) = api.post("/v1/events/batch", &json!({"events": events})).await;
    assert_eq!(status, 202, "{answer}");

    eventually(DEADLINE + Duration::from_secs(timeout), || async {
        let pending = read(api, "/v1/deliveries?limit=1&status=pending").await;
        pending["data"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    let deliveries = deliveries(api, &event).await;
    assert_eq!(deliveries.len(), ATTEMPTS);
    for delivery in &deliveries {
        assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(1)));
        let attempts = attempts(api, delivery).await;
        assert_eq!(attempts.len(), 1);
        ended_at_the_deadline(&attempts[0], timeout);
    }
    // The worker has closed all connections.
    eventually(DEADLINE, || async { (trickle.open.load(Ordering::SeqCst) == 0).then_some(()) }).await;
}

/// A 200 is a success however its body ends; the attempt's note says how.
fn ended_at_the_deadline(attempt: &Value, timeout: u64) {
    let response = &attempt["response"];
    assert_eq!((&response["status"], &attempt["error"]), (&json!(200), &Value::Null), "{attempt}");
    assert_eq!(attempt["note"], "time ran out before the body was complete", "{attempt}");
    let body = text(&response["body"]);
    assert!(body.len() > 4000 && body.bytes().all(|byte| byte == b'z'), "{attempt}");
    let took = Duration::from_secs_f64(attempt["duration_ms"].as_f64().unwrap() / 1000.0);
    let deadline = Duration::from_secs(timeout);
    // The machine may be busy, so a late end is allowed.
    assert!(took >= deadline && took < deadline + DEADLINE, "{attempt}");
}

/// All deliveries of events of this type.
async fn deliveries(api: &Api, event: &str) -> Vec<Value> {
    let first = format!("/v1/deliveries?event={event}&limit=250");
    let (mut all, mut seen, mut path) = (Vec::new(), BTreeSet::new(), first.clone());
    loop {
        let mut page = read(api, &path).await;
        let Value::Array(items) = page["data"].take() else { panic!("{path} is not a list") };
        all.extend(items.into_iter().filter(|item| seen.insert(text(&item["id"]).to_owned())));
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        path = format!("{first}&cursor={cursor}");
    }
}

/// A receiver that immediately sends many headers and most of the body that is stored, and then continues for ever
/// with a few bytes at a time.
struct Trickle {
    address: SocketAddr,
    /// The current and the peak number of requests being answered.
    open: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    _connections: JoinSet<()>,
}

impl Trickle {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&open), Arc::clone(&peak));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            // Dropped with this task, so that connections do not outlive their receiver.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (open, peak) = counters.clone();
                connections.spawn(async move {
                    // The client disconnects; every request ends like this.
                    let _ = trickle(stream, &open, &peak).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, open, peak, _connections: accepting }
    }
}

/// Answers one request for as long as the client reads.
async fn trickle(mut stream: TcpStream, open: &AtomicUsize, peak: &AtomicUsize) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    peak.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let answered = answer(&mut stream).await;
    open.fetch_sub(1, Ordering::SeqCst);
    answered
}

async fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let headers = format!("X-Filler: {}\r\n", "y".repeat(100)).repeat(10);
    let body = format!("fa0\r\n{}\r\n", "z".repeat(4000));
    stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).await?;
    let mut ticks = interval_at(Instant::now() + TRICKLE, TRICKLE);
    loop {
        tokio::select! {
            // Noticed at once, so that an ended attempt does not count as in flight.
            _ = stream.read_u8() => return Ok(()),
            _ = ticks.tick() => stream.write_all(b"1\r\nz\r\n").await?,
        }
    }
}

/// Raises the limit of open files of this process and of those that it starts.
fn raise_descriptors() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= DESCRIPTORS) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < DESCRIPTORS) {
        return Err(format!("{ATTEMPTS} attempts at once need `ulimit -Hn` to be at least {DESCRIPTORS}"));
    }
    let raised = Rlimit { current: Some(DESCRIPTORS), ..limit };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("`ulimit -n` cannot be raised: {error}"))
}
