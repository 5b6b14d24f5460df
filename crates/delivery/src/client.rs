//! The client, its requests and their results.

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
use postrider_core::policy::AttemptTimeout;
use postrider_core::{ErrorKind, TargetUrl, Verdict};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, ConfigError};
use crate::connector::{Connector, ConnectorConfig};
use crate::failure::Failure;
use crate::progress::{PROGRESS, Phase, Progress};
use crate::resolve::{Resolve, SystemResolver};
use crate::response::Response;
use crate::tls::Tls;

/// Makes attempts. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    config: Config,
}

/// One POST. `Debug` shows neither the URL's query nor header values nor the body.
#[derive(Clone)]
pub struct Request {
    /// The URL to post to.
    pub url: TargetUrl,
    /// All headers except `Host` and `Content-Length`, which the client adds.
    pub headers: HeaderMap,
    /// The body, as it was signed.
    pub body: Bytes,
    /// The time limit for the whole attempt; `None` for [`Config::request_timeout`].
    pub timeout: Option<AttemptTimeout>,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The time from the call until the result was known.
    pub duration: Duration,
    /// The receiver's response, whatever its status, or why there is none.
    pub result: Result<Response, Failure>,
}

impl Sent {
    /// Returns whether the receiver answered 2xx.
    pub fn is_success(&self) -> bool {
        self.verdict().is_success()
    }

    /// Returns the verdict on the attempt. Any 2xx status is a success, even if the body arrived incomplete.
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

/// Idle connections per host, so that the connections of one burst serve the next. There are never more than attempts
/// were in flight at once, and each is closed after [`Config::idle_timeout`].
const MAX_IDLE: usize = 512;

/// The read buffer of an HTTP/1.1 connection; a response's headers must fit into it.
const H1_BUFFER: usize = 16 * 1024;
/// The greatest size of an HTTP/2 response's headers (`SETTINGS_MAX_HEADER_LIST_SIZE`, RFC 9113, §6.5.2).
const H2_HEADERS: u32 = 16 * 1024;
/// What an HTTP/2 receiver may send ahead: for one response, and for all responses of a connection.
const H2_STREAM_WINDOW: u32 = 32 * 1024;
const H2_CONNECTION_WINDOW: u32 = 256 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
/// A busy HTTP/2 connection that does not answer a ping is closed. Attempts share it, so a dead one would fail them all
/// until TCP notices a quarter of an hour later.
const H2_PING: Duration = Duration::from_secs(5);

impl Client {
    /// Makes a client that resolves names with the operating system's resolver.
    ///
    /// # Errors
    /// Fails if a value of `config` is out of bounds, or a root certificate cannot be used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// Makes a client that resolves names with `resolver`.
    ///
    /// # Errors
    /// Fails if a value of `config` is out of bounds, or a root certificate cannot be used.
    pub fn with_resolver(config: Config, resolver: Arc<dyn Resolve>) -> Result<Self, ConfigError> {
        config.validate()?;
        let connector = Connector::new(ConnectorConfig {
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
            // Repeats a request only if nothing of it was sent because its pooled connection had gone stale.
            .retry_canceled_requests(true)
            // hyper limits the number of header lines to 100 by default.
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

    /// Checks whether deliveries may go to a URL now: resolves its host and judges every address, without connecting.
    ///
    /// The server calls this when a subscriber is created. Each attempt judges the addresses again.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Blocked`] if the target policy forbids the URL or an address, and with
    /// [`ErrorKind::Dns`] or [`ErrorKind::TimeoutDns`] if the host was not resolved.
    pub async fn check(&self, url: &TargetUrl) -> Result<(), Failure> {
        let Inner { connector, config, .. } = &*self.0;
        config.targets.check(url)?;
        let deadline = Instant::now() + config.connect_timeout;
        timeout_at(deadline, connector.vetted(url.host()))
            .await
            .unwrap_or_else(|_| Err(Failure::timeout(Phase::Dns)))
            .map(|_| ())
    }

    /// Makes one attempt. It ends by its time limit, whatever the receiver does.
    pub async fn send(&self, request: Request) -> Sent {
        let started = Instant::now();
        let timeout = request.timeout.map_or(self.0.config.request_timeout, AttemptTimeout::duration);
        let host = request.url.host().to_owned();
        let result = self.attempt(request, started + timeout).await;
        if let Err(failure) = &result {
            tracing::debug!(host, kind = %failure.kind, detail = %failure, "no response");
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
        let response = match PROGRESS.scope(progress.clone(), exchange).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::exchange(&error)),
            // The request was sent on a pooled connection while a new one was still being made: the connector's phase
            // does not apply.
            Err(_) if connection.connection_metadata().is_some() => {
                return Err(Failure::timeout(Phase::Headers));
            }
            Err(_) => return Err(Failure::timeout(progress.phase())),
        };
        accept(response, config.response_limit, deadline).await
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
        Failure::new(ErrorKind::Internal, "the URL contains characters that cannot be sent over HTTP")
    })?;
    *post.headers_mut() = request.headers;
    Ok(post)
}

async fn accept(
    response: http::Response<Incoming>,
    limit: usize,
    deadline: Instant,
) -> Result<Response, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(
            ErrorKind::Protocol,
            "the receiver tried to switch to another protocol (status 101)",
        ));
    }
    Ok(Response::read(response, limit, deadline).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_target_url_can_be_requested(text in "https?://[!-~é]{1,12}(/[ -~é]{0,20})?") {
            if let Ok(url) = TargetUrl::parse(&text) {
                let host = url.host().to_owned();
                let request = Request { url, headers: HeaderMap::new(), body: Bytes::new(), timeout: None };
                let post = http_request(request);
                prop_assert!(post.is_ok(), "{text}: {post:?}");
                prop_assert_eq!(post.unwrap().uri().host().map(str::to_owned), Some(host));
            }
        }
    }
}
