//! A receiver that runs a script on each connection, over TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A receiver that listens until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

/// What a receiver has seen so far.
#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    sent: AtomicUsize,
    requests: Mutex<Vec<Received>>,
}

/// A request as received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The request line and the header lines.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// Returns the value of a header; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (this, value) = line.split_once(": ")?;
            this.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Receiver {
    /// Runs `script` on every connection, and closes the connection when the script ends.
    pub(crate) async fn start<F, S>(script: F) -> Self
    where
        F: Fn(Connection) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send,
    {
        Self::listen("127.0.0.1:0", None, script).await
    }

    /// Runs `script` on every connection, inside TLS.
    pub(crate) async fn start_tls<F, S>(config: rustls::ServerConfig, script: F) -> Self
    where
        F: Fn(Connection) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send,
    {
        Self::listen("127.0.0.1:0", Some(Arc::new(config).into()), script).await
    }

    /// Answers every request with the same bytes, and leaves the connection open.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut connection| {
            let answer = answer.clone();
            async move {
                while connection.request().await.is_some() && connection.write(&answer).await.is_ok() {}
            }
        })
        .await
    }

    pub(crate) async fn listen<F, S>(address: &str, tls: Option<TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Connection) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (script, for_task) = (Arc::new(script), seen.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                for_task.accepted.fetch_add(1, Ordering::SeqCst);
                let (script, seen, tls) = (script.clone(), for_task.clone(), tls.clone());
                tokio::spawn(async move {
                    if let Some((stream, alpn_http1)) = secured(stream, tls).await {
                        script(Connection { stream, alpn_http1, seen: seen.clone(), unread: Vec::new() })
                            .await;
                    }
                    seen.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Returns how many bytes the scripts could write.
    pub(crate) fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// Waits until every script has ended. Most end when the client closes their connection.
    pub(crate) async fn all_ended(&self) {
        until("every connection has ended", || self.seen.ended.load(Ordering::SeqCst) == self.accepted())
            .await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Waits until `condition` holds; fails after a minute.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < end, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns also whether both ends agreed on HTTP/1.1.
async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<(Box<dyn Duplex>, bool)> {
    let Some(tls) = tls else { return Some((Box::new(stream), false)) };
    let stream = tls.accept(stream).await.ok()?;
    let http1 = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
    Some((Box::new(stream), http1))
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, as a script sees it.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Duplex>,
    /// Whether both ends agreed on HTTP/1.1 in their TLS handshake.
    pub(crate) alpn_http1: bool,
    seen: Arc<Seen>,
    unread: Vec<u8>,
}

impl Connection {
    /// Reads the next request; `None` if the client has closed the connection.
    pub(crate) async fn request(&mut self) -> Option<Received> {
        let end = self.read_until(|unread| unread.windows(4).position(|four| four == b"\r\n\r\n")).await?;
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut received = Received { head, body: Vec::new() };
        let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.read_until(|unread| (unread.len() >= length).then_some(0)).await?;
        received.body = self.unread.drain(..length).collect();
        self.seen.requests.lock().unwrap().push(received.clone());
        Some(received)
    }

    /// Reads the headers of a request, and leaves the body unread.
    pub(crate) async fn head(&mut self) {
        self.read_until(|unread| unread.windows(4).position(|four| four == b"\r\n\r\n")).await;
    }

    async fn read_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(at) = found(&self.unread) {
                return Some(at);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.unread.extend_from_slice(&chunk[..length]),
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.seen.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }

    /// Writes the same bytes again and again, with a pause in between, until the client closes the connection.
    pub(crate) async fn repeat(&mut self, bytes: &[u8], pause: Duration) {
        while self.write(bytes).await.is_ok() {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Does nothing until the client closes the connection.
    pub(crate) async fn hang(&mut self) {
        self.read_until(|_| None).await;
    }
}
