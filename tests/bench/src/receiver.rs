//! The receiver: a minimal HTTP server whose behaviour depends on the request's path.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::arrivals::Arrivals;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const SLOW: Duration = Duration::from_secs(2);
const HEADERS: usize = 32;

/// How a subscriber answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Healthy,
    Failing,
    /// After two seconds.
    Slow,
    /// Never.
    Hanging,
}

impl Manner {
    fn path(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Slow => "slow",
            Self::Hanging => "hanging",
        }
    }

    fn of(path: &str) -> Self {
        [Self::Failing, Self::Slow, Self::Hanging]
            .into_iter()
            .find(|manner| manner.path() == path)
            .unwrap_or(Self::Healthy)
    }
}

/// A running receiver, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(arrivals: &Arc<Arrivals>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let arrivals = Arc::clone(arrivals);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&arrivals)));
            }
        });
        Self { address, accepting }
    }

    pub(crate) fn url(&self, manner: Manner, subscriber: usize) -> String {
        format!("http://{}/{}/{subscriber}", self.address, manner.path())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, arrivals: Arc<Arrivals>) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(request) = read(&mut stream, &mut buffer).await else { return };
        match request.manner {
            Manner::Hanging => std::future::pending().await,
            Manner::Slow => sleep(SLOW).await,
            Manner::Healthy | Manner::Failing => {}
        }
        let answer = if request.manner == Manner::Failing {
            FAILED
        } else {
            arrivals.note(request.subscriber, request.event);
            OK
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

struct Request {
    manner: Manner,
    subscriber: usize,
    event: usize,
}

/// The next request; `None` when the connection has ended or does not speak HTTP.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some((request, length)) = parse(buffer)? {
            buffer.drain(..length);
            return Some(request);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// `Some(None)` if more bytes are needed; `None` if the bytes are not a request.
#[allow(clippy::option_option)]
fn parse(bytes: &[u8]) -> Option<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).ok()? else { return Some(None) };
    let length = content_length(request.headers)?;
    let Some(body) = bytes.get(head..head + length) else { return Some(None) };
    let mut path = request.path?.split('/').skip(1);
    let (manner, subscriber) = (Manner::of(path.next()?), path.next()?.parse().unwrap_or(usize::MAX));
    Some(Some((Request { manner, subscriber, event: number(body) }, head + length)))
}

pub(crate) fn content_length(headers: &[httparse::Header<'_>]) -> Option<usize> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    std::str::from_utf8(header.value).ok()?.parse().ok()
}

/// The event's number: `"n":123` in its data. Events without one do not belong to the run.
fn number(body: &[u8]) -> usize {
    const NAME: &[u8] = b"\"n\":";
    let Some(place) = body.windows(NAME.len()).position(|window| window == NAME) else { return usize::MAX };
    let digits = body[place + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}
