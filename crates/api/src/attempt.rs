//! Attempts: single HTTP requests of a delivery, and their responses.

use postrider_core::{AttemptId, ErrorKind, id};
use serde::{Deserialize, Serialize};

use crate::event::PayloadGone;
use crate::{Cursor, Limit, List, Moment};

/// One HTTP request of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Attempt))]
pub struct AttemptView {
    /// The attempt's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "att_01h455vb4pex5vsknk084sn02q"))]
    pub id: AttemptId,
    /// The attempt's number within the delivery, from 1.
    pub number: u32,
    /// When the attempt started.
    pub started_at: Moment,
    /// How long the attempt took, in milliseconds.
    #[cfg_attr(feature = "schema", schema(example = 12.5))]
    pub duration_ms: f64,
    /// The request; null if the attempt made none, or if it was erased or is older than this field.
    #[cfg_attr(feature = "schema", schema(required))]
    pub request: Option<RequestView>,
    /// The receiver's address and port; null if no connection was made, or as `request`.
    #[cfg_attr(feature = "schema", schema(required, example = "93.184.215.14:443"))]
    pub remote_addr: Option<String>,
    /// How long each phase took, in milliseconds; null as `request`.
    #[cfg_attr(feature = "schema", schema(required))]
    pub timings_ms: Option<TimingsView>,
    /// Whether the request was sent a second time within the attempt, because a reused connection was closed before any
    /// answer. The receiver may have processed both.
    pub resent: bool,
    /// The response; null if there was none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub response: Option<ResponseView>,
    /// Why the attempt failed; null if it succeeded.
    #[cfg_attr(feature = "schema", schema(required))]
    pub error: Option<AttemptErrorView>,
    /// What the subscriber's owner can do about the failure; null if the attempt succeeded.
    #[cfg_attr(feature = "schema", schema(required))]
    pub advice: Option<String>,
    /// A flaw of the response, such as a body that was cut short or a header that could not be read; null if there was
    /// none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub note: Option<String>,
}

/// The request of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Request))]
pub struct RequestView {
    /// The URL. The values of its query are masked.
    #[cfg_attr(feature = "schema", schema(example = "https://example.com/hooks?token=***"))]
    pub url: String,
    /// The HTTP method.
    #[cfg_attr(feature = "schema", schema(example = "POST"))]
    pub method: String,
    /// The headers in the order of sending, without `Host` and `Content-Length`. Signatures, the subscriber's own
    /// headers and its `auth` are masked.
    pub headers: Vec<HeaderView>,
    /// The SHA-256 of the body, in hexadecimal.
    pub body_sha256: String,
    /// The version of the transform that made the data, as the subscriber shows it; null if there was none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub transform_version: Option<String>,
    /// The fingerprint of the secret that signed it, as the audit trail shows it where secrets are set; null of older attempts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = "9f86d081884c7d65"))]
    pub secret_version: Option<String>,
    /// The version of the policy that it followed, as the subscriber shows it; null of older attempts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub policy_version: Option<String>,
}

/// How long the phases of an attempt took, in milliseconds. A phase that the attempt did not enter is null: one that reuses a
/// connection does not resolve, connect or shake hands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Timings))]
pub struct TimingsView {
    /// Resolving the host.
    #[cfg_attr(feature = "schema", schema(required))]
    pub resolve: Option<f64>,
    /// Connecting, through the egress proxy if there is one.
    #[cfg_attr(feature = "schema", schema(required))]
    pub connect: Option<f64>,
    /// The TLS handshake.
    #[cfg_attr(feature = "schema", schema(required))]
    pub tls: Option<f64>,
    /// From the end of the above until the headers of the response.
    #[cfg_attr(feature = "schema", schema(required, example = 12.1))]
    pub first_byte: Option<f64>,
    /// From the headers until the end of the response.
    #[cfg_attr(feature = "schema", schema(required, example = 0.1))]
    pub body: Option<f64>,
}

/// A receiver's response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Response))]
pub struct ResponseView {
    /// The HTTP status.
    #[cfg_attr(feature = "schema", schema(example = 200))]
    pub status: u16,
    /// The headers in the order received. Bytes outside ASCII are shown as the Unicode characters of the same numbers.
    pub headers: Vec<HeaderView>,
    /// The beginning of the body.
    pub body: String,
    /// How `body` is encoded.
    pub body_encoding: BodyEncoding,
    /// Whether the body was longer than what is shown.
    pub truncated: bool,
    /// `hidden` if `headers` and `body` are empty because the key lacks the scope `payloads:read`; otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub payload: Option<PayloadGone>,
}

/// How a response's body is written in JSON: `utf-8` as it is, or `base64` if it is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum BodyEncoding {
    /// The body is UTF-8 and shown as it is.
    #[serde(rename = "utf-8")]
    Utf8,
    /// The body is not UTF-8 and shown in base64.
    #[serde(rename = "base64")]
    Base64,
}

/// A header of a request or a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Header))]
pub struct HeaderView {
    /// The name, in lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = AttemptError))]
pub struct AttemptErrorView {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// What happened, for people.
    pub message: String,
}

/// The attempts of a delivery.
pub type AttemptList = List<AttemptView>;

/// Selects attempts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct AttemptsQuery {
    /// The most items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Attempt>>,
}
