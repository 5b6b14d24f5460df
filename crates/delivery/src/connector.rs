//! The guarded connector: the only way in which an attempt reaches the network.
//!
//! It resolves the host, judges every address, and connects only to an address that it has judged. The HTTP client
//! never connects by itself, so a name that resolves differently after the judgement (DNS rebinding) gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use postrider_core::target::TargetPolicy;
use postrider_core::{ErrorKind, chain};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower::Service;

use crate::failure::Failure;
use crate::progress::{Phase, Progress};
use crate::proxy::ProxyUrl;
use crate::resolve::Resolve;
use crate::tls::{self, Tls};

/// The number of addresses to try. Further addresses of a name are judged, but not tried.
const MAX_TRIED: usize = 8;

/// Connects to addresses that the target policy allows.
#[derive(Clone)]
pub(crate) struct Connector(Arc<ConnectorConfig>);

pub(crate) struct ConnectorConfig {
    pub(crate) targets: TargetPolicy,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) proxy: Option<ProxyUrl>,
    pub(crate) tls: Tls,
    pub(crate) timeout: Duration,
}

impl Connector {
    pub(crate) fn new(config: ConnectorConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Resolves a host and judges every address. One forbidden address rejects the host.
    pub(crate) async fn vetted(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let addresses = match bare.parse() {
            Ok(address) => vec![address],
            Err(_) => self.0.resolver.resolve(host).await.map_err(|error| {
                tracing::debug!(host, error = %chain(&error), "host name not resolved");
                Failure::dns("the host name could not be resolved", host)
            })?,
        };
        if addresses.is_empty() {
            return Err(Failure::dns("the host name has no address", host));
        }
        self.0.targets.addresses.judge_all(&addresses).inspect_err(|forbidden| {
            tracing::debug!(host, address = %forbidden.address(), range = forbidden.range(), "target rejected");
        })?;
        Ok(addresses)
    }

    async fn connect(
        &self,
        destination: &Uri,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Stream, Failure> {
        progress.enter(Phase::Dns);
        let https = destination.scheme_str() == Some("https");
        let Some(host) = destination.host() else {
            return Err(Failure::new(ErrorKind::Internal, "the URL has no host"));
        };
        let port = destination.port_u16().unwrap_or(if https { 443 } else { 80 });
        let addresses = self.vetted(host).await?;
        let tcp = self.first_to_accept(&addresses, port, deadline, progress).await?;
        if !https {
            progress.enter(Phase::Headers);
            return Ok(Stream { io: TokioIo::new(Box::new(tcp)), h2: false });
        }
        progress.enter(Phase::Tls);
        let tls = self.0.tls.handshake(host, tcp).await?;
        progress.enter(Phase::Headers);
        let h2 = tls::is_h2(&tls);
        Ok(Stream { io: TokioIo::new(Box::new(tls)), h2 })
    }

    /// Tries the addresses in turn. Each gets an equal share of the remaining time, so that an address that never
    /// answers leaves time for the next.
    async fn first_to_accept(
        &self,
        addresses: &[IpAddr],
        port: u16,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<TcpStream, Failure> {
        let tried = addresses.len().min(MAX_TRIED);
        let mut failure = None;
        for (remaining, address) in (1..=tried).rev().zip(addresses) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(remaining).unwrap_or(1);
            failure =
                match timeout_at(now + share, self.dial(SocketAddr::new(*address, port), progress)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => Some(error),
                    Err(_) => Some(Failure::timeout(progress.phase())),
                };
        }
        Err(failure.unwrap_or_else(|| Failure::new(ErrorKind::Dns, "the host name has no address")))
    }

    /// Makes a TCP connection to a judged address, directly or through the proxy.
    async fn dial(&self, address: SocketAddr, progress: &Progress) -> Result<TcpStream, Failure> {
        if let Some(proxy) = &self.0.proxy {
            return proxy.tunnel(address, progress).await;
        }
        progress.enter(Phase::Connect);
        let stream = TcpStream::connect(address).await.map_err(|error| Failure::connect(&error))?;
        let _ = stream.set_nodelay(true);
        // The kernel must have connected to the judged address. Equal ends mean that the socket connected to itself.
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            return Err(Failure::connect(&io::ErrorKind::NotConnected.into()));
        };
        if peer == local {
            return Err(Failure::connect(&io::ErrorKind::ConnectionRefused.into()));
        }
        if (peer.ip().to_canonical(), peer.port()) != (address.ip().to_canonical(), address.port()) {
            return Err(Failure::new(
                ErrorKind::Blocked,
                "the connection reached a different address from the one that was allowed",
            ));
        }
        Ok(stream)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Stream, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let (connector, progress) = (self.clone(), Progress::current());
        async move {
            let deadline = progress.within(connector.0.timeout);
            timeout_at(deadline, connector.connect(&destination, deadline, &progress))
                .await
                .unwrap_or_else(|_| Err(Failure::timeout(progress.phase())))
        }
        .boxed()
    }
}

/// A connection, with or without TLS.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    h2: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("h2", &self.h2).finish_non_exhaustive()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}
