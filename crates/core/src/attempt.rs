//! Attempts: one HTTP request of a delivery, and what came of it.

use crate::word::words;

words! {
    /// Why an attempt failed.
    ErrorKind, "an error kind" {
        /// The receiver answered, but not 2xx.
        Status = 0, "status";
        /// The host's name did not resolve.
        Dns = 1, "dns";
        /// The URL or its address is one that deliveries may not go to.
        Blocked = 2, "blocked";
        /// No TCP connection.
        Connect = 3, "connect";
        /// TLS failed in a way that has no kind of its own.
        Tls = 4, "tls";
        /// The certificate has expired, or is not valid yet.
        TlsExpired = 5, "tls_expired";
        /// The certificate is for another host.
        TlsWrongHost = 6, "tls_wrong_host";
        /// The certificate's issuer is not trusted.
        TlsUnknownIssuer = 7, "tls_unknown_issuer";
        /// Time ran out before the name was resolved.
        TimeoutDns = 8, "timeout_dns";
        /// Time ran out before there was a connection.
        TimeoutConnect = 9, "timeout_connect";
        /// Time ran out within the TLS handshake.
        TimeoutTls = 10, "timeout_tls";
        /// Time ran out before the answer's headers were complete.
        TimeoutHeaders = 11, "timeout_headers";
        /// The connection was closed or reset before there was an answer.
        Reset = 12, "reset";
        /// The answer was not HTTP, or over a limit.
        Protocol = 13, "protocol";
        /// The egress proxy failed; the receiver was not reached and is not to blame.
        Proxy = 14, "proxy";
        /// Postrider could not make the request; the receiver was not reached and is not to blame.
        Internal = 15, "internal";
    }
}

impl ErrorKind {
    /// Whether the failure says something about the receiver, rather than about Postrider or its proxy.
    pub const fn blames_receiver(self) -> bool {
        !matches!(self, Self::Proxy | Self::Internal)
    }
}

/// The result of an attempt. `postrider-delivery` decides it once; recording, health, statistics and the API read it.
///
/// ```
/// use postrider_core::{ErrorKind, Verdict};
///
/// let refused = Verdict::failure(ErrorKind::Status, "the receiver answered 500");
/// assert!(!refused.is_success());
/// assert_eq!(refused.error_kind(), Some(ErrorKind::Status));
/// assert_eq!(refused.detail(), Some("the receiver answered 500"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver answered 2xx.
    Success,
    /// The receiver answered 2xx, but its answer had a flaw that the subscriber's owner should know of.
    SuccessWithNote(String),
    /// The attempt failed.
    Failure {
        /// The kind of failure.
        kind: ErrorKind,
        /// What happened, in words for the subscriber's owner. It contains no secret and no address.
        detail: String,
    },
}

impl Verdict {
    /// A failed attempt.
    pub fn failure(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::Failure { kind, detail: detail.into() }
    }

    /// A verdict from its two stored parts: failures have a kind, and notes have only a detail.
    pub fn from_parts(kind: Option<ErrorKind>, detail: Option<String>) -> Self {
        match (kind, detail) {
            (Some(kind), Some(detail)) => Self::Failure { kind, detail },
            (Some(kind), None) => Self::failure(kind, "the attempt failed"),
            (None, Some(note)) => Self::SuccessWithNote(note),
            (None, None) => Self::Success,
        }
    }

    /// Whether the delivery has succeeded.
    pub fn is_success(&self) -> bool {
        self.error_kind().is_none()
    }

    /// The kind of failure; `None` for a success.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Success | Self::SuccessWithNote(_) => None,
            Self::Failure { kind, .. } => Some(*kind),
        }
    }

    /// The note of a success, or what happened in a failure.
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
    fn a_verdict_survives_being_stored_in_parts() {
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
