//! Where connections lead to.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use postrider_core::{ErrorKind, ProxyUrl, TargetUrl};

use crate::client_tls::ClientTls;
use crate::failure::Failure;

/// The scheme, host and port of a URL, and the way there: requests of one origin may share connections (RFC 9110, §4.3.1),
/// if they present the same client certificate and trust the same authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) client_tls: Option<ClientTls>,
    /// The proxy on the way. Requests through different proxies, or with different credentials for one, share nothing.
    pub(crate) proxy: Option<ProxyUrl>,
}

impl Origin {
    pub(crate) fn of(url: &TargetUrl, client_tls: Option<ClientTls>, proxy: Option<ProxyUrl>) -> Self {
        Self { https: url.is_https(), host: url.host().into(), port: url.port(), client_tls, proxy }
    }
}

/// What a proxy is asked to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// An address that was judged.
    Address(SocketAddr),
    /// A host name that the proxy resolves, and a port.
    Name(String, u16),
}

/// A URL as a request names it: whole over HTTP/2, and in two parts over HTTP/1.1.
pub(crate) struct Destination {
    pub(crate) absolute: Uri,
    pub(crate) path: Uri,
    pub(crate) host: HeaderValue,
}

impl Destination {
    pub(crate) fn of(url: &TargetUrl) -> Result<Self, Failure> {
        let invalid =
            || Failure::new(ErrorKind::Internal, "the URL contains characters that cannot be sent over HTTP");
        let absolute: Uri = url.as_str().parse().map_err(|_| invalid())?;
        let path = absolute.path_and_query().ok_or_else(invalid)?;
        let path = Uri::builder().path_and_query(path.clone()).build().map_err(|_| invalid())?;
        let authority = absolute.authority().ok_or_else(invalid)?;
        let host = HeaderValue::try_from(shown(authority, absolute.scheme())).map_err(|_| invalid())?;
        Ok(Self { absolute, path, host })
    }
}

/// Leaves out the port that the scheme implies.
fn shown<'a>(authority: &'a Authority, scheme: Option<&Scheme>) -> &'a str {
    let default = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    if authority.port_u16() == Some(default) { authority.host() } else { authority.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_split_into_host_and_path() {
        for (url, host, path) in [
            ("https://example.com", "example.com", "/"),
            ("http://example.com:80/a?b=c", "example.com", "/a?b=c"),
            ("https://example.com:80/?x", "example.com:80", "/?x"),
            ("http://[::1]:8080/", "[::1]:8080", "/"),
        ] {
            let destination = Destination::of(&url.parse().unwrap()).unwrap();
            assert_eq!(
                (destination.host.to_str().unwrap(), destination.path.to_string().as_str()),
                (host, path)
            );
        }
    }

    proptest! {
        #[test]
        fn every_target_url_can_be_requested(text in "https?://[!-~é]{1,12}(/[ -~é]{0,20})?") {
            if let Ok(url) = TargetUrl::parse(&text) {
                let Ok(destination) = Destination::of(&url) else { panic!("{text}") };
                prop_assert_eq!(destination.absolute.host(), Some(url.host()));
            }
        }
    }
}
