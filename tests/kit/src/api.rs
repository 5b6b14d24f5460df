//! A client of Postrider's HTTP API, which checks every response against the server's description.

mod description;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use postrider_api::{event, subscriber};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use description::Description;

/// A client with a key.
///
/// ```no_run
/// # async fn example() {
/// use postrider_testkit::Api;
/// use serde_json::json;
///
/// let api = Api::new("http://127.0.0.1:8080", "operator-key-operator-key-operator-key").with_header("x-tenant-id", "acme");
/// let (status, answer) = api.post("/v1/events", &json!({"event": "order.created", "data": {}})).await;
/// assert_eq!((status, &answer["jobs_created"]), (202, &json!(0)));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    headers: HeaderMap,
    client: Client<HttpConnector, Full<Bytes>>,
    description: Option<Arc<Description>>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON: `null` if it is empty, and a string if it is not JSON.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.body).into_owned()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; `None` if it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Api {
    /// A client of the server at `base` (`http://127.0.0.1:8080`, without a path) that sends `key` with each request.
    pub fn new(base: impl Into<String>, key: &str) -> Self {
        Self::without_key(base).with_header("authorization", &format!("Bearer {key}"))
    }

    /// A client that sends no key.
    pub fn without_key(base: impl Into<String>) -> Self {
        let base = base.into().trim_end_matches('/').to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { base, headers: HeaderMap::new(), client, description: None }
    }

    /// The same client, which from now on checks every response against this description.
    pub fn with_description(mut self, description: Arc<Description>) -> Self {
        self.description = Some(description);
        self
    }

    /// The same client, which from now on checks every response against the server's own description. All servers of a
    /// test process have the same one, so it is read once.
    pub async fn described(self) -> Self {
        static DESCRIPTION: OnceLock<Arc<Description>> = OnceLock::new();
        let description = if let Some(description) = DESCRIPTION.get() {
            Arc::clone(description)
        } else {
            let (status, api) = self.get("/openapi.json").await;
            assert_eq!(status, 200, "{api}");
            Arc::clone(DESCRIPTION.get_or_init(|| Arc::new(Description::new(api))))
        };
        self.with_description(description)
    }

    /// The same client with one more header on each request.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header's value"));
        self
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `PUT path` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE path`
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.call(Method::DELETE, path, None).await
    }

    /// Dispatches an event.
    pub async fn dispatch(&self, event: &event::EventRequest) -> event::DispatchedView {
        self.post_as("/v1/events", event).await
    }

    /// Creates a subscriber.
    pub async fn subscribe(
        &self,
        subscriber: &subscriber::SubscriberRequest,
    ) -> subscriber::CreatedSubscriberView {
        self.post_as("/v1/subscribers", subscriber).await
    }

    /// `GET path`, which must succeed.
    pub async fn get_as<T: DeserializeOwned>(&self, path: &str) -> T {
        read(path, &self.send(Method::GET, path, &[], Bytes::new()).await)
    }

    /// `POST path` with a JSON body, which must succeed.
    pub async fn post_as<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        let body = serde_json::to_vec(body).expect("a body that has a JSON form");
        read(path, &self.post_raw(path, body).await)
    }

    /// `POST path` with exactly these bytes, declared as JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body).await
    }

    /// Sends any request. `headers` are added to the client's own and replace those of the same name.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_send(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("no answer from {}{path}: {error}", self.base))
    }

    /// Like [`Self::send`], for a server that may be down.
    ///
    /// # Errors
    /// Fails if no complete response arrives.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = format!("{}{path}", self.base).parse()?;
        *request.headers_mut() = self.headers.clone();
        for (name, value) in headers {
            request.headers_mut().insert(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
        }
        let (parts, body) = self.client.request(request).await?.into_parts();
        // Server-sent events have no end.
        let is_stream =
            parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if is_stream { Bytes::new() } else { body.collect().await?.to_bytes() };
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        if let Some(Err(difference)) =
            self.description.as_ref().map(|description| description.check(&method, path, &answer))
        {
            panic!("{difference}");
        }
        Ok(answer)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = match body {
            Some(body) => {
                let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
                self.send(method, path, &json, body.to_string()).await
            }
            None => self.send(method, path, &[], Bytes::new()).await,
        };
        (answer.status, answer.json())
    }
}

fn read<T: DeserializeOwned>(path: &str, answer: &Answer) -> T {
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.text()))
}
