//! The client, and one call of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use crate::{ClientError, ConfigError};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How long a call may take, unless the configuration says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the API is, and who calls it.
#[derive(Clone)]
pub struct Config {
    /// The URL of the API, without `/v1`.
    pub url: Url,
    /// The key.
    pub key: Option<Zeroizing<String>>,
    /// The tenant for which an operator's key acts; `None` for what the API chooses without `X-Tenant-ID`.
    pub tenant: Option<String>,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Config {
    /// Calls the API at `url` with a key, with the default timeout of 30 s.
    pub fn new(url: Url, key: Option<&str>) -> Self {
        Self { url, key: key.map(|key| Zeroizing::new(key.to_owned())), tenant: None, timeout: TIMEOUT }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A client of the API.
#[derive(Clone)]
pub struct Client {
    /// Without a slash at its end.
    base: String,
    host: String,
    authorization: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
    timeout: Duration,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// Fails if the URL or the key is invalid, or if the system's certificates cannot be read.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let Config { mut url, key, tenant, timeout } = config;
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).map(str::to_owned);
        let host = host.ok_or(ConfigError::Url)?;
        let host = url.port().map(|port| format!("{host}:{port}")).unwrap_or(host);
        url.set_query(None);
        url.set_fragment(None);
        let authorization = key.map(|key| {
            let text = Zeroizing::new(format!("Bearer {}", key.trim()));
            let mut value = HeaderValue::from_str(&text).map_err(|_| ConfigError::Key)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let connector =
            HttpsConnectorBuilder::new().with_native_roots().map_err(ConfigError::Certificates)?;
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self {
            base: url.as_str().trim_end_matches('/').to_owned(),
            host,
            authorization: authorization.transpose()?,
            tenant: tenant.map(|tenant| tenant.parse().map_err(|_| ConfigError::Tenant)).transpose()?,
            timeout,
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Reads from a path, such as `/v1/plugins`.
    ///
    /// # Errors
    /// Fails if the server refuses the request, cannot be reached, or answers something else.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(Method::GET, path, Bytes::new()).await
    }

    /// Posts JSON to a path.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Request)?;
        self.read(Method::POST, path, body.into()).await
    }

    /// Posts to a path that takes no body.
    pub(crate) async fn post_nothing<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(Method::POST, path, Bytes::new()).await
    }

    /// Deletes what is at a path.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, Bytes::new()).await.map(|_| ())
    }

    /// Sends a request with a JSON body, unless the body is empty, and returns a successful answer as it is.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, whatever the body of the answer is.
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        timeout(self.timeout, async {
            let response = self.exchange(method, path, body, None).await?;
            let (head, body) = response.into_parts();
            let status = head.status;
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|source| ClientError::Unreadable { status: status.as_u16(), source })?;
            let answer = Answer { status, headers: head.headers, body: body.to_bytes() };
            if answer.status.is_success() { Ok(answer) } else { Err(refused(&answer)) }
        })
        .await
        .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = self.call(method, path, body).await?;
        serde_json::from_slice(&answer.body).map_err(|error| unreadable(answer.status, error))
    }

    /// Sends a request, and returns its answer once the head has arrived.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        last_event_id: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Unreachable {
            host: self.host.clone(),
            source,
        };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant-id", tenant);
        }
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.into()))?;
        self.http.request(request).await.map_err(|error| unreachable(error.into()))
    }

    /// Returns how long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// An answer whose body is whatever the call returns.
// No derived Debug: the body may be a key or a secret.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status, which is a success.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty if there is none.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Returns the error of an answer that is no success.
pub(crate) fn refused(answer: &Answer) -> ClientError {
    match serde_json::from_slice(&answer.body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(error) => unreadable(answer.status, error),
    }
}

/// Percent-encodes a segment of a path, or a name or a value of a query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// What is not encoded (RFC 3986, section 2.3: unreserved characters).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) fn unreadable(status: StatusCode, error: serde_json::Error) -> ClientError {
    ClientError::Unreadable { status: status.as_u16(), source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Failure;

    /// A client of a server that answers one request with these bytes, or never if there are none; and the request.
    async fn served(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/?query", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let config =
            Config { timeout: Duration::from_secs(2), ..Config::new(url.parse().unwrap(), Some("k1")) };
        (Client::new(config).unwrap(), serving)
    }

    #[tokio::test]
    async fn a_request_has_the_key_and_the_path_below_the_base() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{\"data\":[],\"next_cursor\":null}";
        let (client, serving) = served(answer).await;
        assert!(client.plugins().await.unwrap().data.is_empty());
        let request = serving.await.unwrap();
        assert!(request.starts_with("GET /base/v1/plugins HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer k1\r\n"), "{request}");
        assert!(!format!("{client:?}").contains("k1"));
    }

    #[tokio::test]
    async fn each_failure_has_its_kind() {
        let problem = |status: u16| {
            let body = format!(r#"{{"type":"about:blank","title":"T","status":{status},"detail":"d"}}"#);
            format!("HTTP/1.1 {status} T\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        for (answer, failure) in [
            (problem(404), Failure::NotFound),
            (problem(403), Failure::Refused),
            (problem(409), Failure::Refused),
            (problem(504), Failure::Timeout),
            (problem(503), Failure::Failed),
            ("HTTP/1.1 502 T\r\ncontent-length: 4\r\n\r\n<h1>".to_owned(), Failure::Failed),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(), Failure::Failed),
            ("nonsense\r\n\r\n".to_owned(), Failure::Failed),
            (String::new(), Failure::Timeout),
        ] {
            let (client, _serving) = served(answer.clone().leak()).await;
            let error = client.plugins().await.unwrap_err();
            assert_eq!(error.failure(), failure, "{answer}: {error:?}");
        }
    }

    #[test]
    fn a_client_needs_a_url_and_a_key_that_can_be_sent() {
        let client = |url: &str, key| Client::new(Config::new(url.parse().unwrap(), key));
        assert!(matches!(client("ftp://a/", None), Err(ConfigError::Url)));
        assert!(matches!(client("data:x", None), Err(ConfigError::Url)));
        assert!(matches!(client("http://a/", Some("a\nb")), Err(ConfigError::Key)));
        assert!(client("https://a:1/b/", Some(" a ")).is_ok());
        let tenant = Some("a\nb".to_owned());
        let config = Config { tenant, ..Config::new("http://a/".parse().unwrap(), None) };
        assert!(matches!(Client::new(config), Err(ConfigError::Tenant)));
        assert_eq!(encoded("a/../b c?é-_.~"), "a%2F..%2Fb%20c%3F%C3%A9-_.~");
    }
}
