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
use postrider_core::{ErrorKind, ProxyUrl, chain};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::client_tls::ClientTls;
use crate::failure::Failure;
use crate::local::LocalTrouble;
use crate::origin::{Origin, Target};
use crate::progress::{Phase, Progress};
use crate::proxy;
use crate::proxy_health::ProxyHealth;
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
pub(crate) struct Connector(Arc<ConnectorConfig>, Arc<ProxyHealth>);

/// A new connection to a receiver.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// Whether both ends agreed on HTTP/2.
    pub(crate) h2: bool,
    /// The receiver's address, also if a proxy connects to it; `None` if the proxy has resolved it.
    pub(crate) remote: Option<SocketAddr>,
}

pub(crate) struct ConnectorConfig {
    pub(crate) targets: TargetPolicy,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) tls: Tls,
    pub(crate) timeout: Duration,
}

impl Connector {
    pub(crate) fn new(config: ConnectorConfig) -> Self {
        Self(Arc::new(config), Arc::default())
    }

    /// The same connector with other handshakes.
    pub(crate) fn with_tls(&self, tls: Tls) -> Self {
        let ConnectorConfig { targets, resolver, tls: _, timeout } = &*self.0;
        let (targets, resolver) = (targets.clone(), resolver.clone());
        Self(Arc::new(ConnectorConfig { targets, resolver, tls, timeout: *timeout }), self.1.clone())
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
        timeout_at(deadline, self.connect_by(origin, versions, deadline, progress)).await.unwrap_or_else(
            |_| {
                self.note_timeout(origin.proxy.as_ref(), progress.phase());
                Err(self.timeout(progress.phase()))
            },
        )
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
        let (tcp, remote) = match &origin.proxy {
            Some(proxy) if proxy_resolves(&origin.host, Some(proxy)) => {
                let target = Target::Name(origin.host.as_ref().to_owned(), origin.port);
                (self.tunnel(proxy, &target, progress).await?, None)
            }
            proxy => {
                progress.enter(Phase::Dns);
                let addresses = self.vetted(&origin.host).await?;
                let way = Way { port: origin.port, proxy: proxy.as_ref(), deadline, progress };
                let (tcp, remote) = self.first_to_accept(&addresses, &way).await?;
                (tcp, Some(remote))
            }
        };
        if !origin.https {
            return Ok(Opened { stream: Stream::new(tcp), h2: false, remote });
        }
        progress.enter(Phase::Tls);
        let handshakes = origin.client_tls.as_ref().map_or(&self.0.tls.handshakes, ClientTls::handshakes);
        let tls = handshakes.handshake(&origin.host, versions, tcp).await?;
        let h2 = tls::is_h2(&tls);
        Ok(Opened { stream: Stream::new(tls), h2, remote })
    }

    /// Races the addresses (RFC 8305): the next one is tried when the one before has failed, or after its head start. The
    /// first that accepts wins, and the other is dropped. An address gets no more than its share of the remaining time, so
    /// that those which never answer leave time for the rest.
    async fn first_to_accept(
        &self,
        addresses: &[IpAddr],
        way: &Way<'_>,
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
                let share =
                    way.deadline.saturating_duration_since(now) / u32::try_from(remaining).unwrap_or(1);
                head_start = head_start.min(share);
                let racing = u32::try_from(remaining.min(MAX_RACING)).unwrap_or(1);
                let remote = SocketAddr::new(address, way.port);
                dials.push(self.dial_by(remote, now + share * racing, way));
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
        way: &Way<'_>,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        if let Ok(dialled) = timeout_at(deadline, self.dial(remote, way)).await {
            return dialled.map(|stream| (stream, remote));
        }
        self.note_timeout(way.proxy, way.progress.phase());
        Err(Failure::timeout(way.progress.phase()))
    }

    /// Makes a connection through a proxy, unless that could not be reached a moment ago.
    async fn tunnel(
        &self,
        proxy: &ProxyUrl,
        target: &Target,
        progress: &Progress,
    ) -> Result<TcpStream, Failure> {
        let health = &self.1;
        let trial = health.trial(proxy).ok_or_else(|| Failure::local(LocalTrouble::Proxy))?;
        let stream = proxy::reach(proxy, &*self.0.resolver, progress).await.inspect_err(|failure| {
            if failure.local == Some(LocalTrouble::Proxy) {
                health.failed(proxy);
            }
        })?;
        trial.reached();
        proxy::tunnel(proxy, stream, target, progress).await
    }

    /// Takes note of a proxy that could not be reached in time.
    fn note_timeout(&self, proxy: Option<&ProxyUrl>, phase: Phase) {
        if let Some(proxy) = proxy.filter(|_| phase == Phase::Proxy) {
            self.1.failed(proxy);
        }
    }

    /// Makes a TCP connection to a judged address, directly or through the proxy.
    async fn dial(&self, address: SocketAddr, way: &Way<'_>) -> Result<TcpStream, Failure> {
        let progress = way.progress;
        if let Some(proxy) = way.proxy {
            return self.tunnel(proxy, &Target::Address(address), progress).await;
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

/// How and until when the addresses of a host are tried.
struct Way<'a> {
    port: u16,
    proxy: Option<&'a ProxyUrl>,
    deadline: Instant,
    progress: &'a Progress,
}

/// Returns whether a proxy resolves this host. Names of the machine itself are never left to it: they are judged.
pub(crate) fn proxy_resolves(host: &str, proxy: Option<&ProxyUrl>) -> bool {
    let bare = host.trim_end_matches('.');
    let is_own = bare.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
    let is_name = !host.starts_with('[') && bare.parse::<IpAddr>().is_err();
    is_name && !is_own && proxy.is_some_and(ProxyUrl::resolves_names)
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
