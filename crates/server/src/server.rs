//! Connections: accepted up to a limit, read with a time limit, and closed gracefully.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderValue, Request, StatusCode, Version};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use postrider_core::chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use crate::address::Peer;
use crate::config::{Config, ConfigError};
use crate::places::{Place, Places};
use crate::problem::Problem;
use crate::receivers::CloseWithoutAnswer;
use crate::router::{Routers, routers};
use crate::state::Parts;
use crate::viewers::Viewers;

/// How long a request's head may take to arrive, and how long a connection may be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 32 * 1024;
/// How long a client may take to read something of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after the system had no file descriptors or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a connection may take to send its first request once the server accepts no more connections.
const LINGER: Duration = Duration::from_millis(500);

/// The API on an address.
#[derive(Debug)]
pub struct Server {
    doors: Doors,
    address: SocketAddr,
    /// Where the console is, if it is served.
    console: Option<SocketAddr>,
    viewers: Viewers,
    places: Places,
    delay: Duration,
    grace: Duration,
}

/// Where clients come in, and what they get there.
#[derive(Debug)]
struct Doors {
    api: Door,
    /// The console's, if it has an address of its own.
    console: Option<Door>,
}

#[derive(Debug)]
struct Door {
    listener: TcpListener,
    router: Router,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A value of the configuration is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused to listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The system refused to listen on the address of the console.
    #[error("cannot listen on {address} for the console")]
    Console {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

impl BindError {
    /// The setting that is wrong, if a program has taken its configuration from settings.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Console { .. } => "POSTRIDER_CONSOLE_LISTEN",
            Self::Config(_) | Self::Listen { .. } => "POSTRIDER_LISTEN",
        }
    }
}

impl Server {
    /// Listens on `address`. With port 0 the system chooses a port ([`Server::local_addr`]). Connections wait until
    /// [`Server::serve`] runs.
    ///
    /// # Errors
    /// Fails if a value of `config` is out of bounds, or the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, mut config: Config, parts: Parts) -> Result<Self, BindError> {
        config.validate()?;
        let places = Places::new(config.connections, config.connections_per_address);
        let (delay, grace) = (config.delay, config.grace);
        let listening = listen(address).await;
        let (address, listener) = listening.map_err(|source| BindError::Listen { address, source })?;
        let has_console = cfg!(feature = "console") && config.console;
        let own = match config.console_listen.filter(|_| has_console) {
            Some(address) => {
                let listening = listen(address).await;
                Some(listening.map_err(|source| BindError::Console { address, source })?)
            }
            None => None,
        };
        let (own_address, own_listener) = own.unzip();
        let console_address = has_console.then(|| own_address.unwrap_or(address));
        if config.portal_url.is_none() {
            let of_console = console_address.map(|address| format!("http://{}", reachable(address)));
            config.portal_url = config.public_url.clone().or(of_console);
        }
        config.public_url.get_or_insert_with(|| format!("http://{}", reachable(address)));
        let Routers { api, console, viewers } = routers(config, parts)?;
        let own = own_listener.zip(console).map(|(listener, router)| Door { listener, router });
        let doors = Doors { api: Door { listener, router: api }, console: own };
        Ok(Self { doors, address, console: console_address, viewers, places, delay, grace })
    }

    /// The address of the console; `None` if it is not served.
    pub fn console_addr(&self) -> Option<SocketAddr> {
        self.console
    }

    /// The address, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the places for connections, to report when all are taken.
    pub fn places(&self) -> Places {
        self.places.clone()
    }

    /// Answers requests until `shutdown` ends and the delay is over, and then lets requests in flight finish within the
    /// grace period. Returns whether all of them finished.
    ///
    /// During the delay every response carries `Connection: close`, so that clients leave before the server closes what
    /// is idle: it cannot know that a request is on its way (RFC 9112, §9.5). Report the server as not ready when
    /// `shutdown` ends, so that load balancers send new clients elsewhere.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> bool {
        let Self { doors, viewers, places, delay, grace, address: _, console: _ } = self;
        let mut open =
            Open { graceful: GracefulShutdown::new(), tasks: JoinSet::new(), closing: Arc::default() };
        open.accept_until(&doors, &places, shutdown).await;
        open.closing.store(true, Ordering::SeqCst);
        // Their responses would never end.
        viewers.close();
        open.accept_until(&doors, &places, sleep(delay)).await;
        // The system refuses connections from here on.
        for door in [Some(doors.api), doors.console].into_iter().flatten() {
            open.accept_waiting(door, &places);
        }
        let ended = async {
            open.linger().await;
            open.graceful.shutdown().await;
        };
        // Dropping the tasks closes the connections that are left after that.
        timeout(grace, ended).await.is_ok()
    }
}

/// The address at which this machine reaches a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The open connections.
struct Open {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    /// Whether each response closes its connection.
    closing: Arc<AtomicBool>,
}

impl Open {
    async fn accept_until(&mut self, doors: &Doors, places: &Places, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut end => return,
                Some(_) = self.tasks.join_next() => continue,
                accepted = accept(doors, places) => accepted,
            };
            if let Some((stream, router, place)) = accepted {
                self.serve(stream, router, place);
            }
        }
    }

    /// Stops listening, after accepting the connections that the system has established already and would reset.
    fn accept_waiting(&mut self, Door { listener, router }: Door, places: &Places) {
        // Without Tokio, which may not have heard of them yet. It has made the listener non-blocking.
        let Ok(listener) = listener.into_std() else { return };
        while let Some(free) = places.try_free()
            && let Ok((stream, peer)) = listener.accept()
            && stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            if let Some(place) = free.take(peer.ip()) {
                self.serve(stream, &router, place);
            }
        }
    }

    /// Leaves the youngest connections the time to send their first request, which closes them. Hyper would close them at
    /// once.
    async fn linger(&mut self) {
        let all_closed = async { while self.tasks.join_next().await.is_some() {} };
        // What is left afterwards is idle or busy.
        let _ = timeout(LINGER, all_closed).await;
    }

    fn serve(&mut self, stream: TcpStream, router: &Router, place: Place) {
        let peer = stream.peer_addr().map(|address| Peer(address.ip())).ok();
        let mut stream = Box::pin(TimeoutStream::new(stream));
        stream.as_mut().set_write_timeout_pinned(Some(WRITE_TIMEOUT));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
        let (router, closing) = (TowerToHyperService::new(router.clone()), Arc::clone(&self.closing));
        let service = service_fn(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            // RFC 9112, section 3.2.
            let without_host = request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST);
            let (response, closing) = (router.call(request), Arc::clone(&closing));
            async move {
                let mut response = if without_host {
                    Problem::new(StatusCode::BAD_REQUEST, "send the header `Host`").into_response()
                } else {
                    let Ok(response) = response.await;
                    response
                };
                if response.extensions().get::<CloseWithoutAnswer>().is_some() {
                    return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
                }
                if closing.load(Ordering::SeqCst) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(response)
            }
        });
        let connection = self.graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        self.tasks.spawn(async move {
            // Not an error of the server: the client disconnected or did not speak HTTP.
            if let Err(error) = connection.await {
                tracing::debug!(error = %chain(&error), "connection failed");
            }
            drop(place);
        });
    }
}

async fn listen(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind(address).await?;
    Ok((listener.local_addr()?, listener))
}

impl Doors {
    async fn accept(&self) -> (&Router, io::Result<(TcpStream, SocketAddr)>) {
        let Some(console) = &self.console else {
            return (&self.api.router, self.api.listener.accept().await);
        };
        tokio::select! {
            accepted = self.api.listener.accept() => (&self.api.router, accepted),
            accepted = console.listener.accept() => (&console.router, accepted),
        }
    }
}

async fn accept<'a>(doors: &'a Doors, places: &Places) -> Option<(TcpStream, &'a Router, Place)> {
    let free = places.free().await?;
    let (router, accepted) = doors.accept().await;
    match accepted {
        Ok((stream, peer)) => {
            let place = free.take(peer.ip())?;
            // Responses are small and written whole, so waiting to fill a packet would only delay them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(error = %chain(&error), "TCP_NODELAY not set");
            }
            Some((stream, router, place))
        }
        Err(error) if is_of_connection(&error) => None,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "accept failed; retrying");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Whether the error concerns only the connection that was being accepted.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
