//! Attempts: one HTTP request of a delivery, and what came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::delivery::named;

named! {
    /// Why an attempt failed.
    ErrorKind, "error kind" {
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
