//! Errors as they are answered: problem documents (RFC 9457).

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_core::chain;
use postrider_dispatch::DispatchError;
use postrider_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// When to come again after a 503, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// An error (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// The fields that are wrong, if it is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field, as in `policy.max_attempts` or `events[1].data`; also a parameter's or a header's name.
    #[schema(example = "data")]
    pub(crate) field: String,
    /// What is wrong with it.
    #[schema(example = "data must be an object or an array")]
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// There is no such thing, or it is another tenant's: the answer is the same.
    pub(crate) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// One field is wrong.
    pub(crate) fn field(field: impl Into<String>, message: &(impl Display + ?Sized)) -> Self {
        Self::fields(vec![FieldError { field: field.into(), message: message.to_string() }])
    }

    /// Fields are wrong.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let named = errors.iter().map(|error| format!("`{}`", error.field)).collect::<Vec<_>>().join(", ");
        let detail = format!("see `errors`: something is wrong with {named}");
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database is not available; try again in a moment")
    }

    /// Nothing that the caller could know or mend.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the server's log says what")
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

// Handled here, so logged here: the caller is told no more than whether to try again.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let trace_id = postrider_telemetry::context::current_trace_id();
        if error.is_unavailable() {
            tracing::warn!(trace_id, %error, "the store is unavailable");
            return Self::unavailable();
        }
        tracing::error!(trace_id, %error, "a request failed");
        Self::internal()
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let trace_id = postrider_telemetry::context::current_trace_id();
        match error {
            DispatchError::KeyConflict => Self::new(StatusCode::CONFLICT, error.to_string()),
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

/// Gathers the fields that are wrong.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    within: String,
    list: Vec<FieldError>,
}

impl Errors {
    /// Of what stands at `path` of the request, such as `events[1]`.
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

    /// The value, if it holds.
    pub(crate) fn check<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, &error)).ok()
    }

    /// The value, if there is one.
    pub(crate) fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "it is missing");
        }
        value
    }

    /// The problem; what is wrong with the body as a whole is named `body`.
    pub(crate) fn whole_body(mut self) -> Problem {
        for error in self.list.iter_mut().filter(|error| error.field.is_empty()) {
            error.field.push_str("body");
        }
        Problem::fields(self.list)
    }

    /// What was made, if nothing was wrong.
    pub(crate) fn finish<T>(self, made: Option<T>) -> Result<T, Problem> {
        match made {
            Some(made) if self.list.is_empty() => Ok(made),
            _ => Err(Problem::fields(self.list)),
        }
    }
}
