//! Connections over HTTP, with TLS where the URL says so.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub(crate) type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that keeps connections. Servers are checked with the certificates of the system.
pub(crate) fn connect(longest: Duration) -> io::Result<Http> {
    let tls = HttpsConnectorBuilder::new().with_native_roots()?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(longest));
    let https = tls.https_or_http().enable_http1().wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(https))
}
