//! One HTTP connection, and the right to send a request on it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use postrider_core::policy::RequestMethod;
use tokio::sync::oneshot;

use crate::connector::Opened;
use crate::failure::Failure;
use crate::head::Flaws;
use crate::origin::Destination;
use crate::resend::{EndReason, Resend, Unanswered};
use crate::stream::{Expected, Received, Stream};

/// The read buffer of an HTTP/1.1 connection. What is kept of a response's head fits into it.
const H1_BUFFER: usize = 16 * 1024;
/// The greatest size of an HTTP/2 response's headers, of which each counts 32 bytes more than it has
/// (`SETTINGS_MAX_HEADER_LIST_SIZE`, RFC 9113, §6.5.2).
const H2_HEADERS: u32 = 96 * 1024;
/// What an HTTP/2 receiver may send ahead: for one response, and for all responses of a connection.
const H2_STREAM_WINDOW: u32 = 32 * 1024;
const H2_CONNECTION_WINDOW: u32 = 256 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
/// A busy HTTP/2 connection that does not answer a ping is closed. Attempts share it, so a dead one would fail them all
/// until TCP notices a quarter of an hour later.
const H2_PING: Duration = Duration::from_secs(5);
/// The requests that an HTTP/2 connection carries before the receiver has said how many it allows.
const H2_FIRST_STREAMS: usize = 1;

/// The sending half of a connection. Its other half is a task that ends with the connection, or once nothing can be sent
/// any more.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The receiver's address; `None` if a proxy has resolved it.
    pub(crate) remote: Option<SocketAddr>,
    received: Received,
    /// The next response on an HTTP/1.1 connection.
    expected: Option<Expected>,
    /// Whether it has answered a request.
    answered: AtomicBool,
    pub(crate) streams: Streams,
}

/// The requests on an HTTP/2 connection. `active` and `opened` are changed with the pool locked.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The number of requests that it carries now.
    pub(crate) active: AtomicUsize,
    /// The number of requests that it has carried.
    pub(crate) opened: AtomicUsize,
    /// The number of those that the receiver did not process.
    pub(crate) unprocessed: AtomicUsize,
    /// The number of requests that it may carry at once.
    pub(crate) allowed: AtomicUsize,
    /// Whether the receiver refuses requests.
    pub(crate) refusing: AtomicBool,
    /// Whether it must get no further request.
    pub(crate) retired: AtomicBool,
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) reason: EndReason,
    pub(crate) resend: Resend,
    pub(crate) failure: Failure,
}

/// A request, which can be sent several times.
pub(crate) struct Message {
    pub(crate) method: RequestMethod,
    pub(crate) destination: Destination,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Message {
    fn request(&self, http2: bool) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = match self.method {
            RequestMethod::Post => Method::POST,
            RequestMethod::Put => Method::PUT,
            RequestMethod::Patch => Method::PATCH,
            RequestMethod::Get => Method::GET,
        };
        *request.headers_mut() = self.headers.clone();
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = self.destination.absolute.clone();
        } else {
            *request.uri_mut() = self.destination.path.clone();
            request.headers_mut().entry(header::HOST).or_insert_with(|| self.destination.host.clone());
        }
        request
    }
}

impl Sender {
    /// Begins to speak HTTP on a new connection. Over HTTP/2, returns also how many requests it may carry at once, once
    /// the receiver has said so.
    pub(crate) async fn start(
        opened: Opened,
    ) -> Result<(Self, Facts, Option<oneshot::Receiver<usize>>), Failure> {
        let Opened { mut stream, h2, remote } = opened;
        let expected = if h2 { None } else { Some(stream.heads()) };
        let facts = Facts::new(remote, stream.received(), expected);
        if h2 {
            let settings = stream.settings();
            return Ok((Self::http2(stream).await?, facts, Some(settings)));
        }
        Ok((Self::http1(stream).await?, facts, None))
    }

    async fn http1(stream: Stream) -> Result<Self, Failure> {
        let (sender, connection) = http1::Builder::new()
            // hyper limits the number of header lines to 100 by default. What exceeds that is left out before.
            .max_buf_size(H1_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::http(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %postrider_core::chain(&error), "connection ended");
            }
        });
        Ok(Self::Http1(sender))
    }

    async fn http2(stream: Stream) -> Result<Self, Failure> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(H2_HEADERS)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .initial_max_send_streams(H2_FIRST_STREAMS)
            .max_send_buf_size(H2_SEND_BUFFER)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::http(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %postrider_core::chain(&error), "connection ended");
            }
        });
        Ok(Self::Http2(sender))
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Returns whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the headers of its response.
    pub(crate) async fn send(
        &mut self,
        message: &Message,
        facts: &Facts,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let http2 = self.is_http2();
        let request = message.request(http2);
        let (received, reused) = (facts.received.bytes(), facts.answered.load(Ordering::Acquire));
        if let Some(expected) = &facts.expected {
            expected.begin();
        }
        let answer = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        match answer {
            Ok(response) => {
                facts.answered.store(true, Ordering::Release);
                Ok(response)
            }
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                let reason = EndReason::of(&error, http2, unsent);
                let received = facts.received.bytes() > received;
                let resend = Resend::of(Unanswered { reason, http2, reused, received });
                let failure = Failure::unanswered(&error, reason, http2, facts.received.alert());
                Err(NoAnswer { reason, resend, failure })
            }
        }
    }
}

impl Facts {
    /// Returns what was wrong with the head of the last response.
    pub(crate) fn flaws(&self) -> Flaws {
        self.expected.as_ref().map_or_else(Flaws::default, Expected::flaws)
    }

    fn new(remote: Option<SocketAddr>, received: Received, expected: Option<Expected>) -> Self {
        let streams = Streams {
            active: AtomicUsize::new(1),
            opened: AtomicUsize::new(1),
            unprocessed: AtomicUsize::new(0),
            allowed: AtomicUsize::new(H2_FIRST_STREAMS),
            refusing: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        };
        Self { remote, received, expected, answered: AtomicBool::new(false), streams }
    }
}

impl Streams {
    /// Returns how many requests the receiver has processed, or may have.
    pub(crate) fn processed(&self) -> usize {
        self.opened.load(Ordering::Acquire).saturating_sub(self.unprocessed.load(Ordering::Acquire))
    }
}
