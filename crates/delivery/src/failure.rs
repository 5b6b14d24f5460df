//! Why an attempt ended without an answer.

use std::error::Error;
use std::io;

use postrider_core::ErrorKind;
use postrider_core::target::{Forbidden, TargetRefused};

use crate::progress::Phase;

/// Why an attempt ended without an answer.
///
/// The text is for the subscriber's owner. It says what to look at, and names no address and
/// nothing else of the network that Postrider runs in: it is made of words that stand in the source
/// and of the host's name as the owner gave it, and of nothing that the system or a peer has said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind that is counted and stored.
    pub kind: ErrorKind,
    /// What happened, in words.
    text: Text,
}

/// The only texts there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Text {
    #[error("{0}")]
    Said(&'static str),
    #[error("{what}: {host}")]
    OfHost { what: &'static str, host: String },
    #[error(transparent)]
    Refused(#[from] TargetRefused),
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: &'static str) -> Self {
        Self { kind, text: Text::Said(text) }
    }

    /// The name of a host was not resolved. `host` is as the subscriber's owner gave it.
    pub(crate) fn dns(what: &'static str, host: &str) -> Self {
        Self { kind: ErrorKind::Dns, text: Text::OfHost { what, host: host.to_owned() } }
    }

    /// Time ran out while waiting for `phase`.
    pub(crate) fn timeout(phase: Phase) -> Self {
        let (kind, detail) = match phase {
            Phase::Dns => (ErrorKind::TimeoutDns, "time ran out before the host's name was resolved"),
            Phase::Proxy => (ErrorKind::Proxy, "time ran out before the egress proxy accepted a connection"),
            Phase::Connect => {
                (ErrorKind::TimeoutConnect, "time ran out before the receiver accepted a connection")
            }
            Phase::Tls => (ErrorKind::TimeoutTls, "time ran out within the TLS handshake"),
            Phase::Headers => (
                ErrorKind::TimeoutHeaders,
                "the receiver accepted the request, but time ran out before it answered",
            ),
        };
        Self::new(kind, detail)
    }

    /// No TCP connection to the receiver.
    pub(crate) fn connect(error: &io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::ConnectionRefused => "the receiver refused the connection",
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
                "the connection was reset while it was made"
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "the receiver cannot be reached"
            }
            io::ErrorKind::TimedOut => "the receiver did not answer to the connection",
            _ => "no connection to the receiver could be made",
        };
        Self::new(ErrorKind::Connect, detail)
    }

    /// From what the HTTP client says. A connector's failure is passed on as it is.
    pub(crate) fn exchange(error: &hyper_util::client::legacy::Error) -> Self {
        if let Some(failure) = cause::<Self>(error) {
            return failure.clone();
        }
        if let Some(error) = cause::<hyper::Error>(error) {
            return Self::http(error);
        }
        if cause::<io::Error>(error).is_some() {
            return Self::reset();
        }
        Self::new(ErrorKind::Internal, "the request could not be sent")
    }

    fn http(error: &hyper::Error) -> Self {
        if error.is_parse() {
            let detail = "the answer is not valid HTTP, or its headers are over 16 KiB or 100 lines";
            return Self::new(ErrorKind::Protocol, detail);
        }
        if error.is_user() {
            return Self::new(ErrorKind::Internal, "the request could not be made");
        }
        let io = cause::<io::Error>(error).is_some();
        if io
            || error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled()
            || error.is_timeout()
        {
            return Self::reset();
        }
        Self::new(ErrorKind::Protocol, "the receiver broke the rules of HTTP, or ended the stream")
    }

    fn reset() -> Self {
        Self::new(ErrorKind::Reset, "the receiver closed the connection before it answered")
    }
}

/// The first cause of that type.
fn cause<T: Error + 'static>(error: &dyn Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

impl From<Forbidden> for Failure {
    fn from(forbidden: Forbidden) -> Self {
        TargetRefused::from(forbidden).into()
    }
}

impl From<TargetRefused> for Failure {
    fn from(refused: TargetRefused) -> Self {
        Self { kind: ErrorKind::Blocked, text: refused.into() }
    }
}
