//! What an attempt sent, where to, and how long its phases took.

use std::net::SocketAddr;
use std::time::Duration;

use postrider_core::ExpressionId;

/// What an attempt sent, where to, and how long its phases took. Contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The request, as it was sent.
    pub request: SentRequest,
    /// The receiver's address; `None` if no connection was made.
    pub remote: Option<SocketAddr>,
    /// How long each phase took.
    pub phases: Phases,
    /// Whether the request was sent a second time although the receiver may have processed the first.
    pub resent: bool,
    /// A flaw of the response for the subscriber's owner, such as a header that could not be read.
    pub note: Option<String>,
}

/// The request of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// The HTTP method.
    pub method: String,
    /// The URL, with the values of its query masked.
    pub url: String,
    /// The headers in the order of sending, with lower-case names.
    pub headers: Vec<(String, SentValue)>,
    /// The SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// The version of the transform that made the data; `None` if there was none.
    pub transform: Option<ExpressionId>,
    /// What of the subscriber was used; `None` of attempts that are older than this field.
    pub versions: Option<Versions>,
}

/// The versions of a subscriber's secret and policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The fingerprint of the secret, as the audit trail has it.
    pub secret: [u8; 8],
    /// Stands for the policy.
    pub policy: ExpressionId,
}

/// The value of a header that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentValue {
    /// The value. Each byte is the character with that number.
    Shown(String),
    /// The value is secret, or signs the request, and is not kept.
    Masked,
}

/// How long the phases of an attempt took. A phase that the attempt did not enter is `None`: one that reuses a connection does
/// not resolve, connect or shake hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Resolving the host.
    pub resolve: Option<Duration>,
    /// Connecting.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the end of the above until the headers of the response.
    pub first_byte: Option<Duration>,
    /// From the headers until the end of the response.
    pub body: Option<Duration>,
}
