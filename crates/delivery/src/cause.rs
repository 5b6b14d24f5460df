//! What is behind an error of the HTTP client, or of TLS.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

/// Returns whether an error says that the connection was closed or lost, and not that it carried something invalid.
pub(crate) fn is_closed(error: &hyper::Error) -> bool {
    !error.is_parse()
        && !error.is_user()
        && (cause::<io::Error>(error).is_some()
            || error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled()
            || error.is_timeout())
}

/// Returns the first cause of type `T`.
pub(crate) fn cause<T: Error + 'static>(error: &dyn Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Returns what an alert says about the client certificate; `None` if it is about something else.
pub(crate) fn client_certificate(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRequired => Some("the receiver requires a client certificate"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => {
            Some("the receiver rejected the client certificate, or requires one")
        }
        _ => None,
    }
}
