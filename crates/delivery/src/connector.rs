//! The guarded connector: the only way in which an attempt reaches the network.
//!
//! It resolves the host, judges every address, and connects only to an address that it has judged. The HTTP client
//! never connects by itself, so a name that resolves differently after the judgement (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use postrider_core::target::TargetPolicy;
use postrider_core::{ErrorKind, chain};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::local::LocalTrouble;
use crate::origin::Origin;
use crate::progress::{Phase, Progress};
use crate::proxy::ProxyUrl;
use crate::resolve::{Resolve, ResolveError};
use crate::stream::Stream;
use crate::tls::{self, Tls, Versions};

/// The number of addresses to try. Further addresses of a name are judged, but not tried.
const MAX_TRIED: usize = 8;
/// The number of addresses that an attempt connects to at once. The descriptors of a worker are counted with two for each
/// attempt.
const MAX_RACING: usize = 2;
/// How long an address has for itself before the next one is tried beside it (RFC 8305, §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to addresses that the target policy allows.
#[derive(Clone)]
pub(crate) struct Connector(Arc<ConnectorConfig>);

/// A new connection to a receiver.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// Whether both ends agreed on HTTP/2.
    pub(crate) h2: bool,
    /// The receiver's address, also if a proxy connects to it.
    pub(crate) remote: SocketAddr,
}

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
                match (error.local_trouble(), error) {
                    (Some(trouble), _) => Failure::local(trouble),
                    (None, ResolveError::Silent) => Failure::silent(host),
                    (None, _) => Failure::dns("the host name could not be resolved", host),
                }
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

    /// Connects to `origin`, within the connect timeout and the attempt's deadline.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        versions: Versions,
        progress: &Progress,
    ) -> Result<Opened, Failure> {
        let deadline = progress.within(self.0.timeout);
        timeout_at(deadline, self.connect_by(origin, versions, deadline, progress))
            .await
            .unwrap_or_else(|_| Err(self.timeout(progress.phase())))
    }

    /// Time ran out in `phase`.
    pub(crate) fn timeout(&self, phase: Phase) -> Failure {
        if phase == Phase::Dns && !self.0.resolver.is_available() {
            return Failure::local(LocalTrouble::Resolver);
        }
        Failure::timeout(phase)
    }

    async fn connect_by(
        &self,
        origin: &Origin,
        versions: Versions,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Opened, Failure> {
        progress.enter(Phase::Dns);
        let addresses = self.vetted(&origin.host).await?;
        let (tcp, remote) = self.first_to_accept(&addresses, origin.port, deadline, progress).await?;
        if !origin.https {
            return Ok(Opened { stream: Stream::new(tcp), h2: false, remote });
        }
        progress.enter(Phase::Tls);
        let tls = self.0.tls.handshake(&origin.host, versions, tcp).await?;
        let h2 = tls::is_h2(&tls);
        Ok(Opened { stream: Stream::new(tls), h2, remote })
    }

    /// Races the addresses (RFC 8305): the next one is tried when the one before has failed, or after its head start. The
    /// first that accepts wins, and the other is dropped. An address gets no more than its share of the remaining time, so
    /// that those which never answer leave time for the rest.
    async fn first_to_accept(
        &self,
        addresses: &[IpAddr],
        port: u16,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let order = race_order(addresses);
        let mut untried = (1..=order.len()).rev().zip(order).peekable();
        let mut dials = FuturesUnordered::new();
        let mut failure: Option<Failure> = None;
        loop {
            let now = Instant::now();
            let mut head_start = HEAD_START;
            if dials.len() < MAX_RACING
                && let Some((remaining, address)) = untried.next()
            {
                let share = deadline.saturating_duration_since(now) / u32::try_from(remaining).unwrap_or(1);
                head_start = head_start.min(share);
                let racing = u32::try_from(remaining.min(MAX_RACING)).unwrap_or(1);
                let remote = SocketAddr::new(address, port);
                dials.push(self.dial_by(remote, now + share * racing, progress));
            }
            let ended = if dials.len() < MAX_RACING && untried.peek().is_some() {
                let Ok(ended) = timeout_at(now + head_start, dials.next()).await else { continue };
                ended
            } else {
                dials.next().await
            };
            match ended {
                Some(Ok(won)) => return Ok(won),
                // What this machine lacks says nothing about the receiver, whatever another address has said.
                Some(Err(error)) => {
                    failure = failure.filter(|failure| failure.local.is_some()).or(Some(error));
                }
                None => break,
            }
        }
        Err(failure.unwrap_or_else(|| Failure::new(ErrorKind::Dns, "the host name has no address")))
    }

    async fn dial_by(
        &self,
        remote: SocketAddr,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        match timeout_at(deadline, self.dial(remote, progress)).await {
            Ok(dialled) => dialled.map(|stream| (stream, remote)),
            Err(_) => Err(Failure::timeout(progress.phase())),
        }
    }

    /// Makes a TCP connection to a judged address, directly or through the proxy.
    async fn dial(&self, address: SocketAddr, progress: &Progress) -> Result<TcpStream, Failure> {
        if let Some(proxy) = &self.0.proxy {
            return proxy.tunnel(address, progress).await;
        }
        progress.enter(Phase::Connect);
        let stream = TcpStream::connect(address).await.map_err(|error| Failure::connect(&error, address))?;
        let _ = stream.set_nodelay(true);
        // The kernel must have connected to the judged address. Equal ends mean that the socket connected to itself.
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            return Err(Failure::connect(&io::ErrorKind::NotConnected.into(), address));
        };
        if peer == local {
            return Err(Failure::connect(&io::ErrorKind::ConnectionRefused.into(), address));
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

/// Returns the addresses to try, in order: IPv6 and IPv4 in turn, beginning with the family of the first (RFC 8305, §4).
fn race_order(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let ipv6_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == ipv6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order.truncate(MAX_TRIED);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        race_order(&addresses).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns() {
        assert_eq!(
            order(&["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]),
            ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
        );
        assert_eq!(order(&["1.1.1.1", "2.2.2.2", "::1"]), ["1.1.1.1", "::1", "2.2.2.2"]);
        assert_eq!(order(&["1.1.1.1", "2.2.2.2"]), ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(order(&["::1"; 9]).len(), MAX_TRIED);
        assert!(order(&[]).is_empty());
    }
}
