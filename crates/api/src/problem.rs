//! Errors, as problem documents (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// An error (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Always `about:blank`: the status identifies the kind of problem.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "about:blank"))]
    pub kind: Cow<'static, str>,
    /// The name of the HTTP status.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "Unprocessable Entity"))]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[cfg_attr(feature = "schema", schema(minimum = 400, maximum = 599, example = 422))]
    pub status: u16,
    /// What is wrong and how to fix it, for people.
    pub detail: String,
    /// The fields that are wrong; absent if the problem is not about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub errors: Vec<FieldError>,
    /// The scope that the key lacks; absent if that is not the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = false, example = "deliveries:retry"))]
    pub needs: Option<Cow<'static, str>>,
    /// The request's id, as in the header `x-request-id`; absent in problems of single events of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = false, example = "req_01h455vb4pex5vsknk084sn02q"))]
    pub request_id: Option<String>,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// The path of a field, such as `policy.max_attempts` or `events[1].data`, or the name of a parameter or header.
    #[cfg_attr(feature = "schema", schema(example = "data"))]
    pub field: String,
    /// What is wrong with the field.
    #[cfg_attr(feature = "schema", schema(example = "data must be an object or an array"))]
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.title, self.detail)?;
        self.errors.iter().try_for_each(|FieldError { field, message }| write!(f, "; {field}: {message}"))
    }
}

impl std::error::Error for Problem {}
