//! Values of headers that requests have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

/// The `User-Agent` of all requests.
pub(crate) const AGENT: HeaderValue = HeaderValue::from_static("AI-Agent-Webhook/1.0");

/// Makes the value for HTTP basic authentication (RFC 7617), which `Debug` does not show. `None` if it is too long for a
/// header.
pub(crate) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let pair = Zeroizing::new([username, ":", password].concat());
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    sensitive(&Zeroizing::new(["Basic ", encoded.as_str()].concat()))
}

/// Makes a header value that `Debug` does not show. `None` if it cannot be sent.
pub(crate) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
