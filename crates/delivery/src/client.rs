//! The client, its requests and their outcomes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use postrider_core::{ErrorKind, TargetUrl, Verdict};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, ConfigError};
use crate::connector::{Connector, Parts};
use crate::failure::Failure;
use crate::progress::{PROGRESS, Phase, Progress};
use crate::resolve::{Resolve, SystemResolver};
use crate::response::Response;
use crate::tls::Tls;

/// Makes attempts. Clones share connections and settings, and are cheap.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    config: Config,
}

/// One POST. Printing it shows neither query, header values nor body.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: TargetUrl,
    /// All headers but `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The bytes that were signed.
    pub body: Bytes,
    /// How long the attempt may take in all; that of [`Config`] if `None`. Kept within 1 s to 60 s.
    pub timeout: Option<Duration>,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Sent {
    /// From the call until the outcome was known.
    pub duration: Duration,
    /// The receiver's answer, which may well be a refusal, or why there is none.
    pub result: Result<Response, Failure>,
}

impl Sent {
    /// Whether the receiver answered 2xx.
    pub fn is_success(&self) -> bool {
        self.verdict().is_success()
    }

    /// The verdict on the attempt: a success if the receiver answered 2xx, whatever else is wrong with its answer.
    pub fn verdict(&self) -> Verdict {
        match &self.result {
            Ok(response) if !response.is_success() => {
                Verdict::failure(ErrorKind::Status, format!("the receiver answered {}", response.status))
            }
            Ok(response) => match response.note {
                Some(note) => Verdict::SuccessWithNote(note.as_str().to_owned()),
                None => Verdict::Success,
            },
            Err(failure) => Verdict::failure(failure.kind, failure.to_string()),
        }
    }
}

const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_mins(1);

/// Idle connections that are kept for one host: what a burst leaves serves the next one. There are never more than
/// attempts were in flight at once, and they are closed when they have been idle for a while.
const MAX_IDLE: usize = 512;

/// What is read at once of an HTTP/1.1 answer; its headers must fit in.
const H1_BUFFER: usize = 16 * 1024;
/// What the headers of an HTTP/2 answer may take (RFC 9113, §6.5.2).
const H2_HEADERS: u32 = 16 * 1024;
/// What a receiver may send ahead over HTTP/2: of one answer, and of all on one connection.
const H2_STREAM_WINDOW: u32 = 32 * 1024;
const H2_CONNECTION_WINDOW: u32 = 256 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
/// An HTTP/2 connection in use that does not answer a ping is closed: attempts share it, so one
/// that has gone dead would fail them all until TCP notices, a quarter of an hour later.
const H2_PING: Duration = Duration::from_secs(5);

impl Client {
    /// A client that asks the operating system for addresses.
    ///
    /// # Errors
    /// If a setting makes no sense or a root certificate is none.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// A client that asks `resolver` for addresses.
    ///
    /// # Errors
    /// If a setting makes no sense or a root certificate is none.
    pub fn with_resolver(config: Config, resolver: Arc<dyn Resolve>) -> Result<Self, ConfigError> {
        config.validate()?;
        let connector = Connector::new(Parts {
            targets: config.targets.clone(),
            resolver,
            proxy: config.proxy.clone(),
            tls: Tls::new(&config.extra_roots_pem)?,
            timeout: config.connect_timeout,
        });
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            // Only a request of which nothing was sent, on a connection that had gone stale.
            .retry_canceled_requests(true)
            // Of header lines, hyper takes 100 by itself.
            .http1_max_buf_size(H1_BUFFER)
            .http2_max_header_list_size(H2_HEADERS)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
            .http2_max_send_buf_size(H2_SEND_BUFFER)
            .http2_keep_alive_interval(H2_PING)
            .http2_keep_alive_timeout(H2_PING)
            .build(connector.clone());
        Ok(Self(Arc::new(Inner { http, connector, config })))
    }

    /// Whether deliveries may go to a URL now: its host is resolved and every address judged, but
    /// nothing is connected to. For the creation of a subscriber; each attempt judges again.
    ///
    /// # Errors
    /// [`ErrorKind::Blocked`] if they may not; [`ErrorKind::Dns`] or [`ErrorKind::TimeoutDns`] if the
    /// name was not resolved.
    pub async fn check(&self, url: &TargetUrl) -> Result<(), Failure> {
        let Inner { connector, config, .. } = &*self.0;
        config.targets.check(url)?;
        let deadline = Instant::now() + config.connect_timeout;
        timeout_at(deadline, connector.vetted(url.host()))
            .await
            .unwrap_or_else(|_| Err(Failure::timeout(Phase::Dns)))
            .map(|_| ())
    }

    /// Makes one attempt. It ends by its deadline, whatever the receiver does.
    pub async fn send(&self, request: Request) -> Sent {
        let started = Instant::now();
        let timeout = match request.timeout {
            Some(timeout) => timeout.clamp(MIN_TIMEOUT, MAX_TIMEOUT),
            None => self.0.config.request_timeout,
        };
        let host = request.url.host().to_owned();
        let result = self.attempt(request, started + timeout).await;
        if let Err(failure) = &result {
            tracing::debug!(host, kind = %failure.kind, detail = %failure, "no answer");
        }
        Sent { duration: started.elapsed(), result }
    }

    async fn attempt(&self, request: Request, deadline: Instant) -> Result<Response, Failure> {
        let Inner { http, config, .. } = &*self.0;
        config.targets.check(&request.url)?;
        let mut request = http_request(request)?;

        let connection = capture_connection(&mut request);
        let progress = Progress::until(deadline);
        let exchange = timeout_at(deadline, http.request(request));
        let answer = match PROGRESS.scope(progress.clone(), exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Failure::exchange(&error)),
            // A connection of the pool may have come first: then the connector's word does not count.
            Err(_) if connection.connection_metadata().is_some() => {
                return Err(Failure::timeout(Phase::Headers));
            }
            Err(_) => return Err(Failure::timeout(progress.phase())),
        };
        accept(answer, config.response_limit, deadline).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.url)
            .field("headers", &self.headers.keys())
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn http_request(request: Request) -> Result<http::Request<Full<Bytes>>, Failure> {
    let mut post = http::Request::new(Full::new(request.body));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = request.url.as_str().parse().map_err(|_| {
        Failure::new(ErrorKind::Internal, "the URL has characters that cannot be sent over HTTP")
    })?;
    *post.headers_mut() = request.headers;
    Ok(post)
}

async fn accept(
    answer: http::Response<Incoming>,
    limit: usize,
    deadline: Instant,
) -> Result<Response, Failure> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(
            ErrorKind::Protocol,
            "the receiver wants to switch to another protocol (101)",
        ));
    }
    Ok(Response::read(answer, limit, deadline).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_url_that_is_a_target_can_be_sent_to(text in "https?://[!-~é]{1,12}(/[ -~é]{0,20})?") {
            if let Ok(url) = TargetUrl::parse(&text) {
                let host = url.host().to_owned();
                let request = Request { url, headers: HeaderMap::new(), body: Bytes::new(), timeout: None };
                let made = http_request(request);
                prop_assert!(made.is_ok(), "{text}: {made:?}");
                prop_assert_eq!(made.unwrap().uri().host().map(str::to_owned), Some(host));
            }
        }
    }
}
