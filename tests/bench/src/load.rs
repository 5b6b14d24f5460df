//! The load: requests over keep-alive connections, either as fast as answers arrive or at a fixed rate.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{arrivals::Arrivals, latency::Latencies, receiver::content_length};

/// Close to the size that other systems publish figures for.
const PAYLOAD: usize = 500;

/// The API call, on one server or spread over several, and the key.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) path: String,
    pub(crate) key: &'static str,
    /// The status of a success.
    pub(crate) expected: u16,
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The time from when a request was due until its answer was read.
    pub(crate) acknowledged: Latencies,
    /// When each event was due, in microseconds since the start of the run.
    pub(crate) due: Vec<u32>,
    /// The time from the first request to the last answer.
    pub(crate) took: Duration,
    /// The number of requests with an unexpected answer.
    pub(crate) refused: usize,
}

/// The body of event `n`.
pub(crate) fn event(n: usize) -> String {
    let mut body = format!(r#"{{"event":"bench.event","data":{{"n":{n},"pad":""#);
    let pad = PAYLOAD.saturating_sub(body.len() + 3);
    body.extend(std::iter::repeat_n('x', pad));
    body.push_str("\"}}");
    body
}

/// The body of a batch of events, numbered from `first`.
pub(crate) fn batch(first: usize, count: usize) -> String {
    let events: Vec<String> = (first..first + count).map(event).collect();
    format!(r#"{{"events":[{}]}}"#, events.join(","))
}

/// Sends `count` requests over `connections` connections, each as soon as the previous answer has arrived.
pub(crate) async fn closed(
    target: &Target,
    run: &Arc<Arrivals>,
    connections: usize,
    count: usize,
    body: fn(usize) -> String,
) -> Sent {
    spread(target, run, connections, count, body, None).await
}

/// Sends `count` requests at a fixed rate, whether or not answers arrive. The latency of a request that waits for a
/// connection counts from when it was due, so that pauses of the system are included.
pub(crate) async fn open(
    target: &Target,
    run: &Arc<Arrivals>,
    connections: usize,
    count: usize,
    a_second: f64,
    body: fn(usize) -> String,
) -> Sent {
    spread(target, run, connections, count, body, Some(a_second)).await
}

async fn spread(
    target: &Target,
    run: &Arc<Arrivals>,
    connections: usize,
    count: usize,
    body: fn(usize) -> String,
    rate: Option<f64>,
) -> Sent {
    let next = Arc::new(AtomicUsize::new(0));
    let (start, offset) = (Instant::now(), run.now());
    let tasks: Vec<_> = (0..connections.min(count))
        .map(|number| {
            let address = target.addresses[number % target.addresses.len()];
            let (target, next, run) = (target.clone(), Arc::clone(&next), Arc::clone(run));
            tokio::spawn(async move {
                let mut connection = Connection::open(&target, address).await;
                let (mut sent, mut refused) = (Vec::with_capacity(count / connections + 1), 0);
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= count {
                        return (sent, refused);
                    }
                    let due = match rate {
                        Some(rate) => {
                            #[allow(clippy::cast_precision_loss)]
                            let after = Duration::from_secs_f64(n as f64 / rate);
                            if start.elapsed() < after {
                                sleep_until(start + after).await;
                                // Timers have millisecond resolution, which is not the system's latency.
                                run.now()
                            } else {
                                offset + u32::try_from(after.as_micros()).unwrap_or(u32::MAX)
                            }
                        }
                        None => run.now(),
                    };
                    if !connection.post(&body(n)).await {
                        refused += 1;
                    }
                    sent.push((n, due, run.now().saturating_sub(due)));
                }
            })
        })
        .collect();

    let (mut due, mut acknowledged, mut refused) = (vec![0; count], Vec::with_capacity(count), 0);
    for task in tasks {
        let (sent, failed) = task.await.expect("a connection's task");
        refused += failed;
        for (n, at, took) in sent {
            due[n] = at;
            acknowledged.push(took);
        }
    }
    Sent { acknowledged: Latencies::new(acknowledged), due, took: start.elapsed(), refused }
}

/// A keep-alive connection.
struct Connection {
    stream: TcpStream,
    head: String,
    expected: u16,
    out: String,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option of the socket");
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: ",
            target.path, address, target.key
        );
        Self {
            stream,
            head,
            expected: target.expected,
            out: String::new(),
            buffer: Vec::with_capacity(16 * 1024),
        }
    }

    async fn post(&mut self, body: &str) -> bool {
        self.out.clear();
        let _ = write!(self.out, "{}{}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(self.out.as_bytes()).await.expect("the server reads");
        loop {
            if let Some((status, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return status == self.expected;
            }
            let read = self.stream.read_buf(&mut self.buffer).await.expect("the server answers");
            assert!(read > 0, "the server closed a connection");
        }
    }
}

/// The status and the length of a complete answer.
fn parse(bytes: &[u8]) -> Option<(u16, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).unwrap_or_else(|error| panic!("not HTTP: {error}"));
    let httparse::Status::Complete(head) = parsed else { return None };
    let length = head + content_length(response.headers).unwrap_or(0);
    (bytes.len() >= length).then_some((response.code?, length))
}
