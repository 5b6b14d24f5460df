//! An HTTP/2 receiver that does as it is told, frame by frame (RFC 9113).

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_delivery::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::receiver::{Connection, Duplex, Receiver};
use crate::setup::Names;
use crate::tls::Authority;

/// What an HTTP/2 receiver does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub(crate) max_streams: Option<u32>,
    /// Waits with its SETTINGS until it has read the first request, and answers nothing before `Counts::release`.
    pub(crate) late_settings: bool,
    /// Ends each connection with GOAWAY after this many requests.
    pub(crate) ends_after: Option<usize>,
    /// Refuses requests (`REFUSED_STREAM`) while this many are open.
    pub(crate) refuses_beyond: Option<usize>,
    /// Refuses this many requests altogether.
    pub(crate) refuses_first: usize,
    /// Resets every request with `HTTP_1_1_REQUIRED`.
    pub(crate) requires_http1: bool,
    /// Answers only once this many requests are open, or none has come for a while.
    pub(crate) gathers: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) processed: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// The greatest number of requests that were open at once on one connection.
    pub(crate) most_open: AtomicUsize,
    /// The number of requests on each connection, refused ones included.
    pub(crate) per_connection: Mutex<Vec<usize>>,
    pub(crate) release: Notify,
}

/// How long a receiver that gathers requests waits for another one.
const GATHERING: Duration = Duration::from_millis(100);
const GOAWAY: u8 = 7;
const RST_STREAM: u8 = 3;
const REFUSED_STREAM: u32 = 7;
const HTTP_1_1_REQUIRED: u32 = 13;

/// A client, a receiver that it trusts, what the receiver counts, and its URL.
pub(crate) async fn h2_pair(config: Config, behaviour: Behaviour) -> (Client, Receiver, Arc<Counts>, String) {
    let authority = Authority::new();
    let counts = Arc::new(Counts::default());
    let for_script = counts.clone();
    let receiver = Receiver::start_tls(
        authority.server("receiver.test", &[b"h2", b"http/1.1"], |_| {}),
        move |mut connection: Connection| {
            let counts = for_script.clone();
            async move {
                if connection.alpn_http1 {
                    while connection.request().await.is_some() {
                        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    }
                    return;
                }
                let _ = Served::new(&mut *connection.stream, behaviour, &counts).run().await;
            }
        },
    )
    .await;
    let names = Names::new("receiver.test", &[&["127.0.0.1"]]);
    let client = Client::with_resolver(authority.trusted(config), names).unwrap();
    let url = format!("https://receiver.test:{}/hook", receiver.address.port());
    (client, receiver, counts, url)
}

struct Served<'a> {
    stream: &'a mut dyn Duplex,
    behaviour: Behaviour,
    counts: &'a Counts,
    open: BTreeSet<u32>,
    /// Requests that are complete, and not answered yet.
    complete: Vec<u32>,
    seen: usize,
    refused: BTreeSet<u32>,
}

impl<'a> Served<'a> {
    fn new(stream: &'a mut dyn Duplex, behaviour: Behaviour, counts: &'a Counts) -> Self {
        let (open, complete, refused) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        Self { stream, behaviour, counts, open, complete, seen: 0, refused }
    }

    async fn run(mut self) -> io::Result<()> {
        let at = {
            let mut connections = self.counts.per_connection.lock().unwrap();
            connections.push(0);
            connections.len() - 1
        };
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).await?;
        let mut settings = Vec::new();
        if let Some(max) = self.behaviour.max_streams {
            settings.extend_from_slice(&3u16.to_be_bytes());
            settings.extend_from_slice(&max.to_be_bytes());
        }
        let mut announced = !self.behaviour.late_settings;
        if announced {
            self.frame(4, 0, 0, &settings).await?;
        }
        let mut ending = false;
        loop {
            let mut head = [0; 9];
            if self.behaviour.gathers > 1 && announced {
                let waited = tokio::time::timeout(GATHERING, self.stream.read_exact(&mut head[..1])).await;
                if let Ok(read) = waited {
                    read?;
                } else {
                    self.answer().await?;
                    self.stream.read_exact(&mut head[..1]).await?;
                }
            } else {
                self.stream.read_exact(&mut head[..1]).await?;
            }
            self.stream.read_exact(&mut head[1..]).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await?;
            match kind {
                // HEADERS
                1 if !ending => {
                    self.seen += 1;
                    self.counts.per_connection.lock().unwrap()[at] += 1;
                    let refuse = self.refuses();
                    if let Some(reason) = refuse {
                        self.counts.refused.fetch_add(1, Ordering::SeqCst);
                        self.refused.insert(id);
                        self.frame(RST_STREAM, 0, id, &reason.to_be_bytes()).await?;
                        continue;
                    }
                    self.open.insert(id);
                    self.counts.most_open.fetch_max(self.open.len(), Ordering::SeqCst);
                    if self.behaviour.ends_after == Some(self.seen) {
                        ending = true;
                        let last = [id.to_be_bytes(), 0u32.to_be_bytes()].concat();
                        self.frame(GOAWAY, 0, 0, &last).await?;
                    }
                }
                1 => self.counts.per_connection.lock().unwrap()[at] += 1,
                // DATA
                0 if flags & 1 != 0 && self.open.contains(&id) => self.complete.push(id),
                // PING
                6 if flags & 1 == 0 => self.frame(6, 1, 0, &payload).await?,
                // SETTINGS
                4 if flags & 1 == 0 => self.frame(4, 1, 0, &[]).await?,
                _ => {}
            }
            if !announced && !self.complete.is_empty() {
                announced = true;
                self.counts.release.notified().await;
                self.frame(4, 0, 0, &settings).await?;
            }
            if announced && (ending || self.open.len() >= self.behaviour.gathers) {
                self.answer().await?;
            }
            if ending && self.open.is_empty() {
                return self.stream.shutdown().await;
            }
        }
    }

    async fn answer(&mut self) -> io::Result<()> {
        for id in std::mem::take(&mut self.complete) {
            self.counts.processed.fetch_add(1, Ordering::SeqCst);
            // `:status: 200` is entry 8 of HPACK's static table.
            self.frame(1, 5, id, &[0x88]).await?;
            self.open.remove(&id);
        }
        Ok(())
    }

    fn refuses(&self) -> Option<u32> {
        let behaviour = self.behaviour;
        if behaviour.requires_http1 {
            return Some(HTTP_1_1_REQUIRED);
        }
        let beyond = behaviour.refuses_beyond.is_some_and(|most| self.open.len() >= most);
        let first = self.counts.refused.load(Ordering::SeqCst) < behaviour.refuses_first;
        (beyond || first).then_some(REFUSED_STREAM)
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }
}
