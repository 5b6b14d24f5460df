//! Errors as the API answers them: problem documents (RFC 9457).

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::FieldError;
use postrider_core::chain;
use postrider_core::key::Scope;
use postrider_database::comes_from_trouble;
use postrider_dispatch::DispatchError;
use postrider_store::StoreError;

use crate::rate::Exceeded;
use crate::request_id;

/// The `Retry-After` of a 503, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// A response that is a problem document. Boxed, because it is the error of most results here.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    body: Box<postrider_api::Problem>,
    /// The `Retry-After` in seconds, unless it follows from the status.
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let body = postrider_api::Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            needs: None,
            request_id: None,
        };
        Self { body: Box::new(body), retry_after: None }
    }

    /// The key lacks a scope.
    pub(crate) fn needs(scope: Scope) -> Self {
        let mut problem = Self::new(StatusCode::FORBIDDEN, format!("the key lacks the scope `{scope}`"));
        problem.body.needs = Some(scope.as_str().into());
        problem
    }

    /// Too many requests.
    pub(crate) fn limited(detail: &str, exceeded: Exceeded) -> Self {
        Self { retry_after: Some(exceeded.retry_after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// A key would be stronger than the one that gives it its powers, in these fields.
    pub(crate) fn stronger(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(
            StatusCode::FORBIDDEN,
            "the key would be stronger than the one that this request shows; see `errors`",
        );
        problem.body.errors = errors;
        problem
    }

    /// A schema may break those who rely on the present one.
    pub(crate) fn breaking(differences: &[String]) -> Self {
        let mut problem = Self::new(
            StatusCode::CONFLICT,
            "the schema may break publishers or receivers that rely on the present one; see `errors`, and set `force` to true \
             to replace it all the same",
        );
        let error = |message: &String| FieldError { field: "schema".into(), message: message.clone() };
        problem.body.errors = differences.iter().map(error).collect();
        problem
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// The object does not exist, or belongs to another tenant. The response does not tell which.
    pub(crate) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    /// One field is wrong.
    pub(crate) fn field(field: impl Into<String>, message: &(impl Display + ?Sized)) -> Self {
        Self::fields(vec![FieldError { field: field.into(), message: message.to_string() }])
    }

    /// Several fields are wrong.
    fn fields(errors: Vec<FieldError>) -> Self {
        let named = errors.iter().map(|error| format!("`{}`", error.field)).collect::<Vec<_>>().join(", ");
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("invalid: {named}; see `errors`"));
        problem.body.errors = errors;
        problem
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database is unavailable; try again")
    }

    /// The same problem with a part of the request, `path` being its place there.
    pub(crate) fn within(mut self, path: &str) -> Self {
        let errors = std::mem::take(&mut self.body.errors);
        if errors.is_empty() {
            return self;
        }
        let within = |error: FieldError| FieldError { field: format!("{path}.{}", error.field), ..error };
        Self::fields(errors.into_iter().map(within).collect())
    }

    /// A failure that the caller can neither cause nor correct.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log has the cause")
    }

    /// The document, for a response that contains several.
    pub(crate) fn into_body(self) -> postrider_api::Problem {
        *self.body
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.body.request_id = request_id::current();
        let status = self.status();
        let mut response = (status, axum::Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::REQUEST_TIMEOUT => {
                // The rest of the body may still arrive (RFC 9110, section 15.5.9).
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

// The request ends here, so the error is logged here, unless `Database::trouble` has logged its cause once for all. The
// response only says whether to try again.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::PluginMissing) {
            return Self::field("plugin.name", &error);
        }
        if matches!(error, StoreError::TakenOver | StoreError::UidTaken | StoreError::TooManyProxies) {
            return Self::new(StatusCode::CONFLICT, error.to_string());
        }
        let trace_id = postrider_telemetry::context::current_trace_id();
        if comes_from_trouble(&error) {
            tracing::debug!(trace_id, error = %chain(&error), "the store cannot write");
            return Self::unavailable();
        }
        if error.is_unavailable() {
            tracing::warn!(trace_id, error = %chain(&error), "the store is unavailable");
            return Self::unavailable();
        }
        tracing::error!(trace_id, error = %chain(&error), "a request failed");
        Self::internal()
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let trace_id = postrider_telemetry::context::current_trace_id();
        match error {
            DispatchError::KeyConflict => Self::new(StatusCode::CONFLICT, error.to_string()),
            DispatchError::TooManySubscribers => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            DispatchError::Hook { name, source } => {
                Self::field("data", &format!("does not fit the transform `{name}`: {}", chain(&*source)))
            }
            error if comes_from_trouble(&error) => {
                tracing::debug!(trace_id, error = %chain(&error), "event not dispatched");
                Self::unavailable()
            }
            error if error.is_unavailable() => {
                tracing::warn!(trace_id, error = %chain(&error), "event not dispatched");
                Self::unavailable()
            }
            error => {
                tracing::error!(trace_id, error = %chain(&error), "event not dispatched");
                Self::internal()
            }
        }
    }
}

/// Collects the fields that are wrong.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    within: String,
    list: Vec<FieldError>,
}

impl Errors {
    /// Errors within the part of the request at `path`, such as `events[1]`.
    pub(crate) fn within(path: impl Into<String>) -> Self {
        Self { within: path.into(), list: Vec::new() }
    }

    pub(crate) fn add(&mut self, field: &str, message: &(impl Display + ?Sized)) {
        let field = match (self.within.as_str(), field) {
            ("", field) => field.to_owned(),
            (within, "") => within.to_owned(),
            (within, field) => format!("{within}.{field}"),
        };
        self.list.push(FieldError { field, message: message.to_string() });
    }

    /// The value; `None` after adding the error.
    pub(crate) fn check<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, &error)).ok()
    }

    /// The value of a required field; `None` after adding an error.
    pub(crate) fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "is required");
        }
        value
    }

    /// The problem. Errors that concern the body as a whole name it `body`.
    pub(crate) fn whole_body(mut self) -> Problem {
        for error in self.list.iter_mut().filter(|error| error.field.is_empty()) {
            error.field.push_str("body");
        }
        Problem::fields(self.list)
    }

    /// The value, if there were no errors.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(Problem::fields(self.list)),
        }
    }
}
