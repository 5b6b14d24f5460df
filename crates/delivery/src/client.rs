//! The client, its requests and their results.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use postrider_core::auth::{Credentials, OAuth2};
use postrider_core::policy::{AttemptTimeout, RequestMethod};
use postrider_core::{ErrorKind, ProxyUrl, ReceiverAuth, TargetUrl, Verdict};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};

use crate::client_tls::{self, ClientTls, ClientTlsError};
use crate::config::{Config, ConfigError};
use crate::connection::{Message, NoAnswer};
use crate::connector::{self, Connector, ConnectorConfig};
use crate::dns::DnsResolver;
use crate::failure::Failure;
use crate::generations::Generations;
use crate::head::Flaws;
use crate::headers::basic;
use crate::keep_alive::keep_alive;
use crate::origin::{Destination, Origin};
use crate::pool::{Lease, Pool};
use crate::progress::{Phase, Progress, Timings};
use crate::resend::{Resend, Resends};
use crate::resolve::Resolve;
use crate::response::{Response, exceeds};
use crate::tls::Tls;
use crate::token::{self, Granted, Tokens};

/// Makes attempts. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    pool: Pool,
    connector: Connector,
    roots: Arc<RootCertStore>,
    client_tls: Mutex<Generations<[u8; 32], ClientTls>>,
    tokens: Tokens,
    config: Config,
}

/// The number of client certificates and private authorities that are remembered: half as many for certain.
const CLIENT_TLS: usize = 1024;

/// One request. `Debug` shows neither the URL's query nor header values nor the body.
#[derive(Clone)]
pub struct Request {
    /// The method. With `GET`, the body must be empty.
    pub method: RequestMethod,
    /// The URL to send it to.
    pub url: TargetUrl,
    /// All headers except `Host` and `Content-Length`, which the client adds.
    pub headers: HeaderMap,
    /// The body, as it was signed.
    pub body: Bytes,
    /// The time limit for the whole attempt; `None` for [`Config::request_timeout`].
    pub timeout: Option<AttemptTimeout>,
    /// How to authenticate to the receiver, beyond `headers`.
    pub auth: Option<Arc<ReceiverAuth>>,
    /// The proxy to send through, instead of [`Config::proxy`].
    pub proxy: Option<ProxyUrl>,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The time from the call until the result was known.
    pub duration: Duration,
    /// The receiver's response, whatever its status, or why there is none.
    pub result: Result<Response, Failure>,
    /// How it came about.
    pub trail: Trail,
}

/// How an attempt's result came about.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The address of the receiver that got the request; `None` if no connection was made, or a proxy resolved the name.
    pub remote: Option<SocketAddr>,
    /// How long each phase took.
    pub timings: Timings,
    /// Whether the request was sent a second time although the receiver may have processed the first.
    pub resent: bool,
    /// What was wrong with the head of the response, for the subscriber's owner.
    pub note: Option<String>,
}

impl Sent {
    /// Makes the result of an attempt whose request was not sent.
    pub fn unsent(failure: Failure) -> Self {
        Self { duration: Duration::ZERO, result: Err(failure), trail: Trail::default() }
    }

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

impl Client {
    /// Makes a client that resolves names with a [`DnsResolver`], which asks [`Config::dns_servers`].
    ///
    /// # Errors
    /// Fails if a value of `config` is out of bounds, or a root certificate cannot be used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let resolver = DnsResolver::new(config.dns_servers.clone());
        Self::with_resolver(config, Arc::new(resolver))
    }

    /// Makes a client that resolves names with `resolver`.
    ///
    /// # Errors
    /// Fails if a value of `config` is out of bounds, or a root certificate cannot be used.
    pub fn with_resolver(config: Config, resolver: Arc<dyn Resolve>) -> Result<Self, ConfigError> {
        config.validate()?;
        let tls = Tls::new(&config.extra_roots_pem)?;
        let roots = tls.roots.clone();
        let connector = Connector::new(ConnectorConfig {
            targets: config.targets.clone(),
            resolver,
            tls,
            timeout: config.connect_timeout,
        });
        let pool = Pool::new(config.idle_timeout);
        let client_tls = Mutex::new(Generations::new(CLIENT_TLS / 2));
        Ok(Self(Arc::new(Inner { pool, connector, roots, client_tls, tokens: Tokens::new(), config })))
    }

    /// Keeps at most this many idle HTTP/1.1 connections from now on, since each has a file descriptor.
    pub fn keep_idle(&self, most: usize) {
        self.0.pool.keep_idle(most);
    }

    /// Checks whether deliveries may go to a URL now: resolves its host and judges every address, without connecting.
    ///
    /// The server calls this when a subscriber is created. Each attempt judges the addresses again. If [`Config::proxy`] resolves
    /// names, they are not judged.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Blocked`] if the target policy forbids the URL or an address, and with
    /// [`ErrorKind::Dns`] or [`ErrorKind::TimeoutDns`] if the host was not resolved.
    pub async fn check(&self, url: &TargetUrl) -> Result<(), Failure> {
        let Inner { connector, config, .. } = &*self.0;
        config.targets.check(url)?;
        if connector::proxy_resolves(url.host(), config.proxy.as_ref()) {
            return Ok(());
        }
        let deadline = Instant::now() + config.connect_timeout;
        timeout_at(deadline, connector.vetted(url.host()))
            .await
            .unwrap_or_else(|_| Err(connector.timeout(Phase::Dns)))
            .map(|_| ())
    }

    /// Reads the client certificate, its key and the authorities of `auth`; `None` if it has none of them.
    ///
    /// The server calls this when a subscriber is created, to reject what cannot be used.
    ///
    /// # Errors
    /// Fails if one of them cannot be read or used, or the key does not belong to the certificate.
    pub fn client_tls(&self, auth: &ReceiverAuth) -> Result<Option<ClientTls>, ClientTlsError> {
        let Inner { roots, client_tls: known, .. } = &*self.0;
        let Some(digest) = client_tls::digest(auth) else { return Ok(None) };
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&digest) {
            return Ok(Some(known));
        }
        let read = ClientTls::new(auth, roots)?;
        if let Some(read) = &read {
            lock().insert(digest, read.clone());
        }
        Ok(read)
    }

    /// Returns what makes connections, the roots that it trusts, and the configuration.
    pub(crate) fn parts(&self) -> (&Connector, &Arc<RootCertStore>, &Config) {
        let Inner { connector, roots, config, .. } = &*self.0;
        (connector, roots, config)
    }

    /// Returns the time limit of an attempt whose request sets none.
    pub fn request_timeout(&self) -> Duration {
        self.0.config.request_timeout
    }

    /// Returns the most bytes of a response's body that are kept.
    pub fn response_limit(&self) -> usize {
        self.0.config.response_limit
    }

    /// Makes one attempt. It ends by its time limit, whatever the receiver does.
    ///
    /// A request that the receiver says it has not processed is sent again at once, on another connection. A request on a
    /// reused connection that closes before any answer is sent once more on a new one, and marked as
    /// [`resent`](Trail::resent), because the receiver may have processed it.
    pub async fn send(&self, request: Request) -> Sent {
        let started = Instant::now();
        let timeout = request.timeout.map_or(self.0.config.request_timeout, AttemptTimeout::duration);
        let host = request.url.host().to_owned();
        let progress = Progress::until(started + timeout);
        let mut trail = Trail::default();
        let result = self.attempt(request, &progress, &mut trail).await;
        if let Err(failure) = &result {
            tracing::debug!(host, kind = %failure.kind, detail = %failure, "no response");
        }
        trail.timings = progress.end();
        Sent { duration: started.elapsed(), result, trail }
    }

    async fn attempt(
        &self,
        request: Request,
        progress: &Progress,
        trail: &mut Trail,
    ) -> Result<Response, Failure> {
        let config = &self.0.config;
        let Request { method, url, mut headers, body, auth, proxy, timeout: _ } = request;
        let proxy = proxy.or_else(|| config.proxy.clone());
        config.targets.check(&url)?;
        let client_tls = match &auth {
            Some(auth) => self.client_tls(auth).map_err(|_| unusable_certificate())?,
            None => None,
        };
        let mut granted = None;
        match auth.as_deref().map(ReceiverAuth::credentials) {
            Some(Credentials::Basic { username, password }) => {
                headers.insert(AUTHORIZATION, basic(username, password).ok_or_else(unsendable)?);
            }
            Some(Credentials::OAuth2(oauth)) => {
                let way = (client_tls.clone(), proxy.clone());
                // Boxed, since few attempts need it.
                let token = Box::pin(self.token(oauth, way, progress.deadline())).await?;
                headers.insert(AUTHORIZATION, token.header.clone());
                granted = Some(token);
            }
            Some(Credentials::None | Credentials::ClientCertificate { .. }) | None => {}
        }
        let origin = Origin::of(&url, client_tls, proxy);
        let message = Message { method, destination: Destination::of(&url)?, headers, body };
        let response = self.round_trip(&origin, &message, config.response_limit, progress, trail).await?;
        if let Some(granted) = granted {
            granted.answered(response.status == StatusCode::UNAUTHORIZED.as_u16()).await;
        }
        Ok(response)
    }

    /// Returns an access token, which is obtained until `deadline` unless one is known.
    async fn token(
        &self,
        oauth: &OAuth2,
        (client_tls, proxy): (Option<ClientTls>, Option<ProxyUrl>),
        deadline: Instant,
    ) -> Result<Granted, Failure> {
        let Inner { config, tokens, .. } = &*self.0;
        let digest = client_tls.as_ref().map(ClientTls::digest);
        let ask = async || {
            config.targets.check(&oauth.token_url)?;
            let origin = Origin::of(&oauth.token_url, client_tls, proxy);
            let destination = Destination::of(&oauth.token_url)?;
            let (headers, body) = token::request(oauth)?;
            let message = Message { method: RequestMethod::Post, destination, headers, body };
            let progress = Progress::until(deadline);
            self.round_trip(&origin, &message, token::ANSWER, &progress, &mut Trail::default()).await
        };
        let waiting = timeout_at(deadline, tokens.get(oauth, digest, ask)).await;
        waiting.unwrap_or_else(|_| {
            Err(Failure::new(ErrorKind::Auth, "time ran out before the token endpoint answered"))
        })
    }

    /// Sends a request, and reads up to `limit` bytes of its response's body.
    async fn round_trip(
        &self,
        origin: &Origin,
        message: &Message,
        limit: usize,
        progress: &Progress,
        trail: &mut Trail,
    ) -> Result<Response, Failure> {
        let deadline = progress.deadline();
        let exchange = timeout_at(deadline, self.exchange(origin, message, progress, trail));
        let (response, lease) =
            exchange.await.unwrap_or_else(|_| Err(self.0.connector.timeout(progress.phase())))?;
        progress.enter(Phase::Body);
        let flaws = lease.flaws();
        let cut = flaws.cut || exceeds(response.headers());
        trail.note = Flaws { cut, ..flaws }.note();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::new(
                ErrorKind::Protocol,
                "the receiver tried to switch to another protocol (status 101)",
            ));
        }
        let keep_alive = keep_alive(response.headers());
        let response = Response::read(response, limit, deadline).await;
        lease.finish(keep_alive);
        Ok(response)
    }

    /// Sends a request until it is answered or has failed.
    async fn exchange(
        &self,
        origin: &Origin,
        message: &Message,
        progress: &Progress,
        trail: &mut Trail,
    ) -> Result<(http::Response<Incoming>, Lease), Failure> {
        let Inner { pool, connector, .. } = &*self.0;
        let mut on_new_connection = false;
        let mut resends = Resends::default();
        loop {
            let mut lease = pool.lease(connector, origin, on_new_connection, progress).await?;
            trail.remote = lease.remote();
            progress.enter(Phase::Headers);
            let NoAnswer { resend, failure, .. } = match lease.send(message).await {
                Ok(response) => return Ok((response, lease)),
                Err(unanswered) => unanswered,
            };
            if !resends.allow(resend) {
                return Err(failure);
            }
            trail.resent = resends.repeated;
            tracing::debug!(origin = &*origin.host, ?resend, "request sent again");
            // Other idle HTTP/1.1 connections may have been closed as well.
            on_new_connection = !lease.is_http2() || resend == Resend::MaybeProcessed;
        }
    }
}

/// Certificates are checked when they are stored, so this is rare.
fn unusable_certificate() -> Failure {
    Failure::new(ErrorKind::Auth, "the client certificate, its key or the private authority cannot be used")
}

fn unsendable() -> Failure {
    Failure::new(ErrorKind::Auth, "the user name and password cannot be sent over HTTP")
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &self.headers.keys())
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("timeout", &self.timeout)
            .field("auth", &self.auth)
            .field("proxy", &self.proxy)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker copies the future of each attempt when it starts the attempt's task.
    #[test]
    fn what_few_attempts_need_does_not_make_all_of_them_large() {
        let client = Client::new(Config::default()).unwrap();
        let request = Request {
            method: RequestMethod::Post,
            url: "https://example.com/".parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: None,
            auth: None,
            proxy: None,
        };
        let size = size_of_val(&client.send(request));
        assert!(size < 4_000, "{size} bytes");
    }
}
