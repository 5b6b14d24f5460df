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
        /// The subscriber's transform does not fit the event. No request was made.
        Transform = 17, "transform";
        /// Postrider and the receiver share no TLS version, cipher suite or type of key.
        TlsUnsupported = 18, "tls_unsupported";
        /// No access token for the receiver could be obtained, or its client certificate cannot be used.
        Auth = 19, "auth";
    }
}

impl ErrorKind {
    /// Returns what the subscriber's owner can do about a failure of this kind. The table in `docs/operations.md` is the same.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Status => {
                "Look up the request in the receiver's log by its webhook-id, and make the receiver answer 2xx once it has stored the event."
            }
            Self::Dns => {
                "Check the host name in the URL and its DNS records: it needs an A or AAAA record that public name servers return."
            }
            Self::Blocked => {
                "Use a URL whose host name resolves to public addresses only, or ask the operator to allow the network."
            }
            Self::Connect => {
                "Check that the receiver is running, listens on the URL's port, and that its firewall allows connections."
            }
            Self::Tls => {
                "Check that the URL's port speaks TLS, with the server's complete certificate chain, and that the subscriber's `auth` has the client certificate that the server may require."
            }
            Self::TlsExpired => {
                "Renew the receiver's certificate, and check the receiver's clock if the certificate is new."
            }
            Self::TlsWrongHost => {
                "Install a certificate that names the URL's host, or use the host name that the certificate was issued for."
            }
            Self::TlsUnknownIssuer => {
                "Install a certificate of a public authority together with its intermediate certificates, or trust a private authority with `ca` in the subscriber's `auth`."
            }
            Self::TlsUnsupported => {
                "Enable TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 on the receiver, with a P-256, P-384, Ed25519 or RSA key."
            }
            Self::Auth => {
                "Check the token endpoint of the subscriber's `auth`, the client's id, secret and scope, and that a client certificate is still valid."
            }
            Self::TimeoutDns => {
                "Check that the name servers of the URL's domain answer quickly from the public internet."
            }
            Self::TimeoutConnect => {
                "Check the receiver's address and firewall: something drops connections without an answer."
            }
            Self::TimeoutTls => "Check the receiver's load, and that the URL's port speaks TLS.",
            Self::TimeoutHeaders => {
                "Answer as soon as the event is stored and process it afterwards, or raise the subscriber's timeout."
            }
            Self::Reset => {
                "Check the receiver and any proxy before it for crashes, restarts and limits that close connections."
            }
            Self::Protocol => {
                "Check that the URL's port speaks HTTP, and that nothing before the receiver damages its responses."
            }
            Self::Proxy => {
                "Nothing to do for the receiver; the operator should check the egress proxy and its rules."
            }
            Self::Internal => "Nothing to do for the receiver; the operator should check the worker's log.",
            Self::Transform => {
                "Correct the subscriber's transform or plugin; waiting deliveries use the new one. `POST /v1/simulate` shows what it makes of an event."
            }
            Self::Unprocessed => {
                "Nothing to do if it is rare; otherwise raise the number of requests that the receiver serves on an HTTP/2 connection."
            }
        }
    }

    /// Returns whether the failure counts against the receiver; `false` for failures of Postrider, its egress proxy or the
    /// subscriber's transform, and for connections that the receiver ended as the protocol allows.
    pub const fn blames_receiver(self) -> bool {
        !matches!(self, Self::Proxy | Self::Internal | Self::Unprocessed | Self::Transform)
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
    fn every_kind_has_its_own_advice() {
        for (index, kind) in ErrorKind::ALL.iter().enumerate() {
            let advice = kind.advice();
            assert!(advice.ends_with('.') && advice.len() > 40, "{kind}: {advice}");
            assert!(ErrorKind::ALL[..index].iter().all(|other| other.advice() != advice), "{kind}");
        }
    }

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
