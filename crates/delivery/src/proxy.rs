//! Egress proxies: HTTP CONNECT (RFC 9110, §9.3.6) and SOCKS 5 (RFC 1928).
//!
//! Postrider still resolves and judges the host itself, and asks the proxy for the judged address, so that DNS rebinding
//! gains nothing. SNI and the `Host` header keep the host name. With `socks5h` the proxy resolves names, and has to judge them.

use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use postrider_core::proxy_url::{ProxyCredentials, ProxyProtocol};
use postrider_core::{ErrorKind, ProxyUrl, chain};
use tokio::net::TcpStream;
use tower::Service;

use crate::failure::Failure;
use crate::local::LocalTrouble;
use crate::origin::Target;
use crate::progress::{Phase, Progress};
use crate::resolve::Resolve;
use crate::socks;

/// Connects to `target` through the proxy, which has to accept the connection.
pub(crate) async fn tunnel(
    proxy: &ProxyUrl,
    stream: TcpStream,
    target: &Target,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    progress.enter(Phase::Connect);
    match proxy.protocol() {
        ProxyProtocol::Http => connect(proxy, stream, target).await,
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => {
            socks::connect(stream, target, proxy.credentials()).await.map_err(|error| {
                tracing::debug!(error = %chain(&error), "the egress proxy opened no tunnel");
                refused()
            })
        }
    }
}

/// Makes a TCP connection to the proxy itself. The operator chose it, so its address is not judged.
pub(crate) async fn reach(
    proxy: &ProxyUrl,
    resolver: &dyn Resolve,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    progress.enter(Phase::Proxy);
    let unavailable = |error: &io::Error| {
        tracing::debug!(?proxy, %error, "the egress proxy could not be reached");
        Failure::local(LocalTrouble::of(error).unwrap_or(LocalTrouble::Proxy))
    };
    let addresses = match proxy.host().parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver.resolve(proxy.host()).await.map_err(|error| {
            tracing::debug!(?proxy, error = %chain(&error), "the egress proxy's name was not resolved");
            Failure::local(error.local_trouble().unwrap_or(LocalTrouble::Proxy))
        })?,
    };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect((address, proxy.port())).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(unavailable(&failure))
}

async fn connect(proxy: &ProxyUrl, stream: TcpStream, target: &Target) -> Result<TcpStream, Failure> {
    let invalid = || Failure::new(ErrorKind::Internal, "the address could not be written as a URI");
    let destination = match target {
        Target::Address(address) => format!("http://{address}"),
        Target::Name(name, port) => format!("http://{name}:{port}"),
    };
    let destination: Uri = destination.parse().map_err(|_| invalid())?;
    // The tunnel only passes it on to the service that connects.
    let own: Uri = Uri::from_static("http://proxy");
    let mut stream = Some(TokioIo::new(stream));
    let connected = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
        std::future::ready(stream.map_err(io::Error::from))
    });
    let mut tunnel = Tunnel::new(own, connected);
    if let Some(credentials) = proxy.credentials() {
        tunnel = tunnel.with_auth(basic(credentials).map_err(|_| invalid())?);
    }
    match tunnel.call(destination).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "the egress proxy opened no tunnel");
            Err(refused())
        }
    }
}

fn refused() -> Failure {
    Failure::new(ErrorKind::Proxy, "the egress proxy could not connect to the receiver")
}

/// Returns the `Proxy-Authorization` for credentials (RFC 7617).
fn basic(
    ProxyCredentials { user, password }: &ProxyCredentials,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let encoded = STANDARD.encode([&user[..], b":", &password[..]].concat());
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
    value.set_sensitive(true);
    Ok(value)
}
