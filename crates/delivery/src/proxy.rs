//! The egress proxy: it tunnels all connections with HTTP CONNECT (RFC 9110, §9.3.6).
//!
//! Postrider still resolves and judges the host itself, and asks the proxy for the judged address, so that DNS rebinding
//! gains nothing. SNI and the `Host` header keep the host name.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use postrider_core::{ErrorKind, chain};
use tokio::net::TcpStream;
use tower::Service;
use url::{Host, Url};

use crate::failure::Failure;
use crate::local::LocalTrouble;
use crate::progress::{Phase, Progress};

/// The URL of an HTTP proxy, `http://[user:password@]host:port`. `Debug` shows no credentials.
///
/// ```
/// use postrider_delivery::ProxyUrl;
///
/// let proxy: ProxyUrl = "http://user:s3cret@proxy.internal:3128".parse()?;
/// assert_eq!(format!("{proxy:?}"), "ProxyUrl(http://proxy.internal:3128)");
/// assert!("socks5://proxy.internal".parse::<ProxyUrl>().is_err());
/// # Ok::<(), postrider_delivery::ProxyUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    host: String,
    port: u16,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why a text is not the URL of a proxy. The message contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// The text is not a URL, or has no host.
    #[error("a proxy URL must have the form http://user:password@host:port")]
    Syntax,
    /// The scheme is not `http`.
    #[error("a proxy URL must start with http://; only HTTP CONNECT over plain TCP is supported")]
    Scheme,
    /// The URL has a path, a query or a fragment.
    #[error("a proxy URL must end after the host and port")]
    Path,
    /// The credentials cannot be written as a header.
    #[error(
        "a proxy's user name and password must not contain control characters, nor the user name a colon"
    )]
    Credentials,
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let url = Url::parse(text).map_err(|_| ProxyUrlError::Syntax)?;
        if url.scheme() != "http" {
            return Err(ProxyUrlError::Scheme);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::Path);
        }
        let port = url.port_or_known_default().ok_or(ProxyUrlError::Syntax)?;
        let (host, shown) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), name.to_owned()),
            Some(Host::Ipv4(address)) => (address.to_string(), address.to_string()),
            Some(Host::Ipv6(address)) => (address.to_string(), format!("[{address}]")),
            None => return Err(ProxyUrlError::Syntax),
        };
        let uri = format!("http://{shown}:{port}").parse().map_err(|_| ProxyUrlError::Syntax)?;
        Ok(Self { host, port, uri, authorization: authorization(&url)? })
    }
}

/// Shows the host and port, and no credentials.
impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uri.authority() {
            Some(authority) => write!(f, "ProxyUrl(http://{authority})"),
            None => f.write_str("ProxyUrl"),
        }
    }
}

/// Returns the `Proxy-Authorization` for a URL's credentials (RFC 7617); `None` if it has none.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, ProxyUrlError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    if user.contains(&b':') || user.iter().chain(&password).any(u8::is_ascii_control) {
        return Err(ProxyUrlError::Credentials);
    }
    let encoded = STANDARD.encode([&user[..], b":", &password[..]].concat());
    let mut value =
        HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| ProxyUrlError::Credentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl ProxyUrl {
    /// Connects to `target` through the proxy.
    pub(crate) async fn tunnel(&self, target: SocketAddr, progress: &Progress) -> Result<TcpStream, Failure> {
        progress.enter(Phase::Proxy);
        let destination: Uri = format!("http://{target}")
            .parse()
            .map_err(|_| Failure::new(ErrorKind::Internal, "the address could not be written as a URI"))?;
        // The operator chose the proxy, so its address is not judged.
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Failure::local(LocalTrouble::of(&error).unwrap_or(LocalTrouble::Proxy)))?;
        let _ = stream.set_nodelay(true);
        progress.enter(Phase::Connect);

        let mut stream = Some(TokioIo::new(stream));
        let connected = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            std::future::ready(stream.map_err(std::io::Error::from))
        });
        let mut tunnel = Tunnel::new(self.uri.clone(), connected);
        if let Some(authorization) = &self.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        match tunnel.call(destination).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the egress proxy opened no tunnel");
                Err(Failure::new(ErrorKind::Proxy, "the egress proxy could not connect to the receiver"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy: ProxyUrl = "http://us%20er:p%40ss@proxy.example:3128".parse().unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap().as_bytes(), b"Basic dXMgZXI6cEBzcw==");
        let shown = format!("{proxy:?} {:?}", proxy.authorization);
        assert!(
            !shown.contains("p@ss") && !shown.contains("dXMg") && shown.contains("proxy.example:3128"),
            "{shown}"
        );
        assert_eq!("http://proxy.example".parse::<ProxyUrl>().unwrap().port, 80);
        assert_eq!("http://[::1]:3128".parse::<ProxyUrl>().unwrap().host, "::1");
    }

    #[test]
    fn a_url_that_cannot_be_a_proxy_is_rejected() {
        for (text, error) in [
            ("", ProxyUrlError::Syntax),
            ("proxy:3128", ProxyUrlError::Scheme),
            ("https://proxy:3128", ProxyUrlError::Scheme),
            ("http://proxy:3128/path", ProxyUrlError::Path),
            ("http://proxy:3128/?a", ProxyUrlError::Path),
            ("http://a%3Ab:c@proxy:3128", ProxyUrlError::Credentials),
            ("http://a:c%0D%0A@proxy:3128", ProxyUrlError::Credentials),
        ] {
            assert_eq!(text.parse::<ProxyUrl>(), Err(error), "{text}");
        }
    }
}
