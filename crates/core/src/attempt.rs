//! Attempts: one HTTP request of a delivery, and its result.

use crate::word::words;

words! {
    /// The kind of failure of an attempt.
    #[non_exhaustive]
    ErrorKind, "an error kind" {
        /// The receiver answered with a status other than 2xx.
        Status = 0, "status";
        /// The host name did not resolve.
        Dns = 1, "dns";
        /// The target policy forbids the URL or its address.
        Blocked = 2, "blocked";
        /// The TCP connection could not be established.
        Connect = 3, "connect";
        /// The TLS handshake failed for a reason other than those below.
        Tls = 4, "tls";
        /// The certificate has expired, or is not valid yet.
        TlsExpired = 5, "tls_expired";
        /// The certificate was issued for another host.
        TlsWrongHost = 6, "tls_wrong_host";
        /// The certificate's issuer is not trusted.
        TlsUnknownIssuer = 7, "tls_unknown_issuer";
        /// Time ran out before the host name was resolved.
        TimeoutDns = 8, "timeout_dns";
        /// Time ran out before the receiver accepted the connection.
        TimeoutConnect = 9, "timeout_connect";
        /// Time ran out during the TLS handshake.
        TimeoutTls = 10, "timeout_tls";
        /// Time ran out before the response's headers were complete.
        TimeoutHeaders = 11, "timeout_headers";
        /// The connection was closed or reset before the receiver answered.
        Reset = 12, "reset";
        /// The response was not valid HTTP, or exceeded a limit.
        Protocol = 13, "protocol";
        /// The egress proxy failed. The receiver was not reached and is not at fault.
        Proxy = 14, "proxy";
        /// Postrider could not make the request. The receiver was not reached and is not at fault.
        Internal = 15, "internal";
        /// The receiver ended every connection, or refused the request on it, before it processed the request, as HTTP/2
        /// allows. It has done nothing wrong.
        Unprocessed = 16, "unprocessed";
    }
}

impl ErrorKind {
    /// Returns whether the failure counts against the receiver; `false` for failures of Postrider or its egress proxy, and
    /// for connections that the receiver ended as the protocol allows.
    pub const fn blames_receiver(self) -> bool {
        !matches!(self, Self::Proxy | Self::Internal | Self::Unprocessed)
    }
}

/// The result of an attempt. `postrider-delivery` decides it once; recording, health, statistics and the API read it.
///
/// ```
/// use postrider_core::{ErrorKind, Verdict};
///
/// let rejected = Verdict::failure(ErrorKind::Status, "the receiver answered 500");
/// assert!(!rejected.is_success());
/// assert_eq!(rejected.error_kind(), Some(ErrorKind::Status));
/// assert_eq!(rejected.detail(), Some("the receiver answered 500"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver answered 2xx.
    Success,
    /// The receiver answered 2xx, but its response had a flaw. The note describes it for the subscriber's owner.
    SuccessWithNote(String),
    /// The attempt failed.
    Failure {
        /// The kind of failure.
        kind: ErrorKind,
        /// What happened, for the subscriber's owner. Contains no secret and no address.
        detail: String,
    },
}

impl Verdict {
    /// Makes the verdict of a failed attempt.
    pub fn failure(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::Failure { kind, detail: detail.into() }
    }

    /// Makes a verdict of its two stored parts. A failure has a kind; a success with a note has only a detail.
    pub fn from_parts(kind: Option<ErrorKind>, detail: Option<String>) -> Self {
        match (kind, detail) {
            (Some(kind), Some(detail)) => Self::Failure { kind, detail },
            (Some(kind), None) => Self::failure(kind, "the attempt failed"),
            (None, Some(note)) => Self::SuccessWithNote(note),
            (None, None) => Self::Success,
        }
    }

    /// Returns whether the attempt succeeded.
    pub fn is_success(&self) -> bool {
        self.error_kind().is_none()
    }

    /// Returns the kind of failure; `None` for a success.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Success | Self::SuccessWithNote(_) => None,
            Self::Failure { kind, .. } => Some(*kind),
        }
    }

    /// Returns the note of a success or the detail of a failure; `None` for a success without a note.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Success => None,
            Self::SuccessWithNote(note) => Some(note),
            Self::Failure { detail, .. } => Some(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_storing_in_parts() {
        let verdicts = [
            Verdict::Success,
            Verdict::SuccessWithNote("the body was cut short".into()),
            Verdict::failure(ErrorKind::Reset, "the connection was reset"),
        ];
        for verdict in verdicts {
            let detail = verdict.detail().map(str::to_owned);
            assert_eq!(Verdict::from_parts(verdict.error_kind(), detail), verdict);
        }
        assert_eq!(Verdict::from_parts(Some(ErrorKind::Dns), None).error_kind(), Some(ErrorKind::Dns));
    }
}
