//! Calls of the API.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use postrider_api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, problem};
use crate::query::Query;
use crate::visit::Visit;

/// The largest answer that a page reads. Events have up to 1 MiB by default.
const LARGEST: usize = 8 * 1024 * 1024;

impl Visit {
    /// Reads something from the API, such as `/v1/events` with `limit`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T, Failure> {
        let bytes = self.call(Method::GET, &query.after(path), Bytes::new()).await?;
        self.read(&bytes)
    }

    /// Reads something that the key may be not allowed to see, or that may not exist: then `None`.
    pub(crate) async fn get_if_allowed<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<Option<T>, Failure> {
        match self.get(path, query).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_bearable() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Sends JSON to the API and reads its answer.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| self.internal())?;
        let bytes = self.call(method, path, body.into()).await?;
        self.read(&bytes)
    }

    /// Makes the API do something whose answer does not matter.
    pub(crate) async fn act(&self, method: Method, path: &str) -> Result<(), Failure> {
        self.call(method, path, Bytes::new()).await.map(drop)
    }

    /// Makes the API do something with a body of JSON.
    #[allow(dead_code, reason = "for the screens that are to come")]
    pub(crate) async fn act_with(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|_| self.internal())?;
        self.call(method, path, body.into()).await.map(drop)
    }

    /// Returns the bytes of the API's answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let response = self.open(method, path, body).await?;
        let (head, body) = response.into_parts();
        let bytes = match Limited::new(body, LARGEST).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => {
                return Err(Failure::new(
                    self,
                    problem(
                        StatusCode::BAD_GATEWAY,
                        "what the API answers is too large for a page, or was cut short; ask the API itself",
                    ),
                ));
            }
        };
        if head.status.is_success() {
            return Ok(bytes);
        }
        let known: Option<Problem> = serde_json::from_slice(&bytes).ok();
        let unknown = || problem(head.status, "the API answered without saying why");
        Err(Failure::new(self, known.unwrap_or_else(unknown)))
    }

    /// Returns the API's answer, whose body may go on for as long as the browser listens.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(headers) = request.headers_mut() {
            headers.insert(header::HOST, HeaderValue::from_static("console"));
            if !body.is_empty() {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(header::CONTENT_LENGTH, body.len().into());
            }
            if let Some(tenant) = self.chosen.as_ref().and_then(|tenant| tenant.as_str().parse().ok()) {
                headers.insert("x-tenant-id", tenant);
            }
            if let Some(last) = self.parts.headers.get("last-event-id") {
                headers.insert("last-event-id", last.clone());
            }
        }
        // A text in the query string that no URI can have.
        let request = request.body(body).map_err(|_| Failure::missing(self, "there is no such page"))?;
        Ok(self.api.call(&self.parts, &self.session, request).await)
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        // Behind the same program is the same API, so this does not happen.
        serde_json::from_slice(if bytes.is_empty() { b"null" } else { bytes }).map_err(|_| self.internal())
    }

    fn internal(&self) -> Failure {
        Failure::new(
            self,
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer of the API could not be read"),
        )
    }
}
