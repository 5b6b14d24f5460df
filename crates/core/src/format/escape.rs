//! Percent-encoding (RFC 3986, section 2.1).

/// Encodes a segment of a path: everything but unreserved characters.
pub(super) fn path_segment(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Encodes the value of a header of a CloudEvent: spaces, quotes, percent signs and everything that is not visible ASCII
/// (HTTP Protocol Binding for CloudEvents, section 3.1.3.2).
pub(super) fn header_value(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%')
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(DIGITS[usize::from(digit)]));
            }
        }
    }
    encoded
}
