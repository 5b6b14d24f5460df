use std::{
    future, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Behaviour,
    record::{Journal, ReceivedRequest},
};

/// Serves one connection until it ends, whatever the client does.
pub(super) async fn serve(
    stream: TcpStream,
    number: usize,
    acceptor: Option<TlsAcceptor>,
    journal: Arc<Journal>,
) {
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket { stream, reset: Arc::clone(&reset) };
    let handler = Handler { number, journal, reset, heard: Heard::default() };
    match acceptor {
        None => handler.serve(socket).await,
        Some(acceptor) => {
            // Some tests want clients that do not trust this server, so that is not an error.
            if let Ok(stream) = acceptor.accept(socket).await {
                handler.serve(stream).await;
            }
        }
    }
}

struct Handler {
    number: usize,
    journal: Arc<Journal>,
    reset: Arc<AtomicBool>,
    heard: Heard,
}

/// Ends the connection: hyper does so on any error.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("no answer")
    }
}

impl std::error::Error for NoAnswer {}

impl Handler {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let stream = Tap { stream, heard: self.heard.clone() };
        let service = service_fn(|request| self.answer(request));
        // Some tests want clients that disconnect, so that is not an error.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let arrived = Instant::now();
        let _in_flight = self.journal.in_flight();
        let headers = headers_of(&self.heard.bytes());
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes().to_vec();
        // Clients do not pipeline, so the next bytes are the next request's head.
        self.heard.clear();

        let behaviour = self.journal.record(ReceivedRequest {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers,
            body,
            arrived,
            connection: self.number,
        });
        self.act(behaviour).await
    }

    async fn act(&self, mut behaviour: Behaviour) -> Result<Response<Full<Bytes>>, NoAnswer> {
        loop {
            match behaviour {
                Behaviour::Delay(delay, then) => {
                    sleep(delay).await;
                    behaviour = *then;
                }
                Behaviour::Wait(gate, then) => {
                    gate.passed().await;
                    behaviour = *then;
                }
                Behaviour::Sequence(_) => behaviour = behaviour.next(),
                Behaviour::Hang => return future::pending().await,
                Behaviour::Reset => {
                    self.reset.store(true, Ordering::Relaxed);
                    return Err(NoAnswer);
                }
                Behaviour::Status(status) => return Ok(response(status, &[], Vec::new())),
                Behaviour::Respond { status, headers, body } => return Ok(response(status, &headers, body)),
            }
        }
    }
}

fn response(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status of three digits");
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a header's name");
        // From bytes, since a header value may contain more than ASCII.
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header's value");
        response.headers_mut().append(name, value);
    }
    response
}

/// The headers as sent; hyper does not keep their order and case.
fn headers_of(heard: &[u8]) -> Vec<(String, Vec<u8>)> {
    let end = heard.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(heard.len());
    let lines = heard[..end].split(|byte| *byte == b'\n').skip(1);
    lines
        .filter_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            Some((name, line[colon + 1..].trim_ascii().to_vec()))
        })
        .collect()
}

/// The bytes read since it was last cleared.
#[derive(Clone, Debug, Default)]
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Heard {
    fn add(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn clear(&self) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A TCP connection that can end with a reset.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // If this fails, the client sees the end of the stream instead of a reset, which is still no answer.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(())); // an end in order would come before the reset
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Passes everything on and copies the bytes that are read.
#[derive(Debug)]
struct Tap<S> {
    stream: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.heard.add(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
