//! Why an attempt got no response.

use std::io;
use std::net::SocketAddr;

use postrider_core::ErrorKind;
use postrider_core::target::{Forbidden, TargetRejected};
use rustls::AlertDescription;

use crate::cause::{client_certificate, is_closed};
use crate::local::LocalTrouble;
use crate::progress::Phase;
use crate::resend::EndReason;

/// Why an attempt got no response. The text is stored and shown to the subscriber's owner.
///
/// It says what to check, and cannot leak anything about Postrider's network: it consists of literals from this crate's
/// source and of the host as the owner gave it, never of anything that the operating system or a peer has said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind of failure, as counted and stored.
    pub kind: ErrorKind,
    /// What this machine lacked. Then no request was sent, and it is to be made again later; `None` otherwise.
    pub local: Option<LocalTrouble>,
    text: Text,
}

/// The only forms that a text can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Text {
    #[error("{0}")]
    Literal(&'static str),
    #[error("{text}: {host}")]
    WithHost { text: &'static str, host: String },
    #[error("the token endpoint answered {status}{}", error.map(|error| format!(" ({error})")).unwrap_or_default())]
    TokenRefused { status: u16, error: Option<&'static str> },
    #[error(transparent)]
    Rejected(#[from] TargetRejected),
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: &'static str) -> Self {
        Self { kind, local: None, text: Text::Literal(text) }
    }

    /// The failure of a receiver that another part of Postrider sends to, or is.
    pub fn of_receiver(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Reset => Self::reset(),
            ErrorKind::TimeoutHeaders => Self::timeout(Phase::Headers),
            ErrorKind::Connect => Self::new(kind, "the receiver refused the connection"),
            ErrorKind::Protocol => Self::new(kind, "the receiver's response is not valid HTTP"),
            kind => Self::new(kind, "the receiver could not be reached; `error_kind` says why"),
        }
    }

    /// A listener that nobody attends.
    pub fn unattended() -> Self {
        Self::new(ErrorKind::Connect, "no `postrider listen` is connected")
    }

    /// A request that could not be made for want of something on this machine.
    pub(crate) fn local(trouble: LocalTrouble) -> Self {
        let (kind, text) = match trouble {
            LocalTrouble::Proxy => {
                (ErrorKind::Proxy, "the egress proxy could not be reached; the receiver is not at fault")
            }
            _ => (ErrorKind::Internal, "Postrider could not make the request; the receiver is not at fault"),
        };
        Self { local: Some(trouble), ..Self::new(kind, text) }
    }

    /// A host that could not be resolved. `host` is as the subscriber's owner gave it.
    pub(crate) fn dns(text: &'static str, host: &str) -> Self {
        Self { kind: ErrorKind::Dns, local: None, text: Text::WithHost { text, host: host.to_owned() } }
    }

    /// A host whose name servers do not answer.
    pub(crate) fn silent(host: &str) -> Self {
        let text = "the name servers of the host did not answer";
        Self { kind: ErrorKind::TimeoutDns, ..Self::dns(text, host) }
    }

    /// A failed request to a token endpoint. What this machine lacks remains that.
    pub(crate) fn of_token_endpoint(failure: Self) -> Self {
        if failure.local.is_some() {
            return failure;
        }
        let text = match failure.kind {
            ErrorKind::Dns | ErrorKind::TimeoutDns => "the token endpoint's host name could not be resolved",
            ErrorKind::Blocked => "the token endpoint is at an address or has a URL that is not allowed",
            ErrorKind::Connect | ErrorKind::TimeoutConnect => "the token endpoint could not be reached",
            ErrorKind::Tls
            | ErrorKind::TlsExpired
            | ErrorKind::TlsWrongHost
            | ErrorKind::TlsUnknownIssuer
            | ErrorKind::TlsUnsupported
            | ErrorKind::TimeoutTls => "the TLS handshake with the token endpoint failed",
            ErrorKind::TimeoutHeaders => "time ran out before the token endpoint answered",
            // It says so already, or the owner is not to blame but the egress proxy or Postrider itself.
            ErrorKind::Auth | ErrorKind::Proxy | ErrorKind::Internal => return failure,
            _ => "the token endpoint closed the connection, or its answer is not valid HTTP",
        };
        Self::new(ErrorKind::Auth, text)
    }

    /// A token endpoint that issued no token.
    pub(crate) fn token_refused(status: u16, error: Option<&'static str>) -> Self {
        Self { kind: ErrorKind::Auth, local: None, text: Text::TokenRefused { status, error } }
    }

    /// A timeout while waiting for `phase`.
    pub(crate) fn timeout(phase: Phase) -> Self {
        let (kind, text) = match phase {
            Phase::Dns => (ErrorKind::TimeoutDns, "time ran out before the host name was resolved"),
            Phase::Proxy => return Self::local(LocalTrouble::Proxy),
            Phase::Start | Phase::Connect => {
                (ErrorKind::TimeoutConnect, "time ran out before the receiver accepted the connection")
            }
            Phase::Tls => (ErrorKind::TimeoutTls, "time ran out during the TLS handshake"),
            Phase::Headers | Phase::Body => (
                ErrorKind::TimeoutHeaders,
                "the receiver accepted the connection, but time ran out before it answered",
            ),
        };
        Self::new(kind, text)
    }

    /// A failed TCP connection to the receiver at `address`.
    pub(crate) fn connect(error: &io::Error, address: SocketAddr) -> Self {
        // Without IPv6, no address is available for an IPv6 receiver.
        let trouble =
            LocalTrouble::of(error).filter(|trouble| *trouble != LocalTrouble::Ports || address.is_ipv4());
        if let Some(trouble) = trouble {
            return Self::local(trouble);
        }
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => "the receiver refused the connection",
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
                "the connection was reset while it was being established"
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "the receiver is unreachable"
            }
            io::ErrorKind::TimedOut => "the receiver did not respond to the connection attempt",
            _ => "the connection to the receiver could not be established",
        };
        Self::new(ErrorKind::Connect, text)
    }

    /// A request that got no answer on an open connection.
    pub(crate) fn unanswered(
        error: &hyper::Error,
        reason: EndReason,
        http2: bool,
        alert: Option<AlertDescription>,
    ) -> Self {
        // In TLS 1.3 the receiver judges the client certificate after the handshake.
        if let Some(text) = alert.and_then(client_certificate) {
            return Self::new(ErrorKind::Tls, text);
        }
        match reason {
            EndReason::Refused | EndReason::Http1Required => Self::unprocessed(),
            EndReason::Unsent if http2 => Self::unprocessed(),
            _ => Self::http(error),
        }
    }

    fn unprocessed() -> Self {
        Self::new(
            ErrorKind::Unprocessed,
            "the receiver ended every HTTP/2 connection, or refused the request on it, before it processed the request",
        )
    }

    /// An error of the HTTP client.
    pub(crate) fn http(error: &hyper::Error) -> Self {
        if error.is_parse() {
            let text = "the response is not valid HTTP, or its headers exceed 64 KiB or 1,000 lines";
            return Self::new(ErrorKind::Protocol, text);
        }
        if error.is_user() {
            return Self::new(ErrorKind::Internal, "the request could not be built");
        }
        if is_closed(error) {
            return Self::reset();
        }
        Self::new(ErrorKind::Protocol, "the receiver violated the HTTP protocol, or ended the stream early")
    }

    fn reset() -> Self {
        Self::new(ErrorKind::Reset, "the receiver closed the connection before it answered")
    }
}

impl From<Forbidden> for Failure {
    fn from(forbidden: Forbidden) -> Self {
        TargetRejected::from(forbidden).into()
    }
}

impl From<TargetRejected> for Failure {
    fn from(rejected: TargetRejected) -> Self {
        Self { kind: ErrorKind::Blocked, local: None, text: rejected.into() }
    }
}
