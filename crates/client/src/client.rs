//! The client, and one call of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use postrider_api::Problem;
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
    /// How long a call may take.
    pub timeout: Duration,
}

impl Config {
    /// Calls the API at `url` with a key, with the default timeout of 30 s.
    pub fn new(url: Url, key: Option<&str>) -> Self {
        Self { url, key: key.map(|key| Zeroizing::new(key.to_owned())), timeout: TIMEOUT }
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
        let Config { mut url, key, timeout } = config;
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
        self.send(Method::DELETE, path, Bytes::new()).await.map(|_| ())
    }

    /// Opens a stream of server-sent events. Only its beginning is bound by the timeout of the client.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Incoming, ClientError> {
        let opening = self.request(Method::GET, path, Bytes::new(), headers);
        let response =
            timeout(self.timeout, opening).await.map_err(|_| ClientError::Timeout(self.timeout))??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = timeout(self.timeout, whole(status, response.into_body()))
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))??;
        Err(refused(status, &body))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let (status, body) = self.send(method, path, body).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(status, error))
    }

    /// Sends a request, and returns a successful answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (status, body) = timeout(self.timeout, self.exchange(method, path, body))
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))??;
        if status.is_success() {
            return Ok((status, body));
        }
        Err(refused(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let response = self.request(method, path, body, &[]).await?;
        let status = response.status();
        Ok((status, whole(status, response.into_body()).await?))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Unreachable {
            host: self.host.clone(),
            source,
        };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.into()))?;
        self.http.request(request).await.map_err(|error| unreachable(error.into()))
    }
}

/// The whole body of an answer.
async fn whole(status: StatusCode, body: Incoming) -> Result<Bytes, ClientError> {
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(body.map_err(|source| ClientError::Unreadable { status: status.as_u16(), source })?.to_bytes())
}

/// The problem that an answer is.
fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(error) => unreadable(status, error),
    }
}

fn unreadable(status: StatusCode, error: serde_json::Error) -> ClientError {
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
    }
}
