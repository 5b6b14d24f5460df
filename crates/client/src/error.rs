//! What goes wrong with a call.

use std::time::Duration;

use postrider_api::Problem;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is not one of an API.
    #[error("the URL of the API must begin with http:// or https:// and have a host")]
    Url,
    /// The key cannot be sent in a header.
    #[error("the key contains characters that no key has")]
    Key,
    /// The tenant cannot be sent in a header.
    #[error("the tenant contains characters that no tenant's name has")]
    Tenant,
    /// The system's certificates cannot be read.
    #[error("the system's root certificates cannot be read")]
    Certificates(#[source] std::io::Error),
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server cannot be reached. It may have received the request all the same.
    #[error("the server at {host} cannot be reached")]
    Unreachable {
        /// The host and port.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server did not answer in time. It may have carried the request out.
    #[error("the server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The server refused the request, or failed.
    #[error(transparent)]
    Refused(Box<Problem>),
    /// The answer is not what the API describes: another server, or another release.
    #[error("the answer, with status {status}, is not one of the Postrider API")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The stream of events ended in the middle, or has an event that is too large.
    #[error("the stream of events is broken")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request has no JSON form.
    #[error("the request cannot be written as JSON")]
    Request(#[source] serde_json::Error),
}

/// The kind of a failure, for programs that distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What the request names does not exist.
    NotFound,
    /// The server refused the request: the key may not do this, or a field is wrong.
    Refused,
    /// The server did not answer in time.
    Timeout,
    /// Anything else.
    Failed,
}

impl ClientError {
    /// Returns the kind of the failure.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused(problem) => match problem.status {
                404 => Failure::NotFound,
                408 | 504 => Failure::Timeout,
                400..500 => Failure::Refused,
                _ => Failure::Failed,
            },
            Self::Timeout(_) => Failure::Timeout,
            Self::Unreachable { .. } | Self::Unreadable { .. } | Self::Stream(_) | Self::Request(_) => {
                Failure::Failed
            }
        }
    }
}
