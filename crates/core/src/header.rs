//! A subscriber's own headers.

use std::fmt;

use zeroize::Zeroizing;

/// The greatest number of headers.
pub const MAX_HEADERS: usize = 32;
/// The greatest length of a name, in characters.
pub const MAX_NAME: usize = 128;
/// The greatest length of a value, in bytes.
pub const MAX_VALUE: usize = 4096;
/// The greatest length of all names and values together, in bytes.
pub const MAX_TOTAL: usize = 16 * 1024;

/// Names that HTTP or Postrider sets, in lower case and with `-` for `_`.
const RESERVED: &[&str] = &[
    // Framing and connection: RFC 9110, §6.4, §7.6 and §10.1; RFC 9112, §6; RFC 9113, §8.2.2.
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Set by intermediaries or dependent on the time, so a fixed value would be false.
    "date",
    "forwarded",
    "via",
    // Postrider sets these on every request.
    "accept-encoding",
    "content-type",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-event-type",
];

/// Prefixes of further names that HTTP or Postrider sets.
const RESERVED_PREFIXES: &[&str] =
    &["postrider-", "proxy-", "webhook-", "x-agent-", "x-forwarded-", "x-postrider-"];

/// The headers that a subscriber adds to its requests, in the order in which they were given.
///
/// Names are tokens (RFC 9110, §5.6.2), in lower case and unique. Names that HTTP or Postrider sets are rejected: `host`,
/// `content-length`, `user-agent`, `webhook-…`, `x-agent-…` and others, also if written with `_`, which many servers
/// read as `-`. Values are visible ASCII, with spaces and tabs only in the middle. There are at most [`MAX_HEADERS`], of
/// at most [`MAX_TOTAL`] bytes together.
///
/// Values are secret because they often contain credentials: `Debug` shows names only.
///
/// ```
/// use postrider_core::CustomHeaders;
///
/// let headers = CustomHeaders::try_new([("Authorization".into(), "Bearer 123".into())])?;
/// assert_eq!(headers.iter().collect::<Vec<_>>(), [("authorization", "Bearer 123")]);
/// assert_eq!(format!("{headers:?}"), r#"CustomHeaders["authorization"]"#);
///
/// assert!(CustomHeaders::try_new([("Host".into(), "internal".into())]).is_err());
/// assert!(CustomHeaders::try_new([("x-a".into(), "1\r\nx-b: 2".into())]).is_err());
/// # Ok::<(), postrider_core::header::HeaderError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, Zeroizing<String>)>);

/// Why headers are invalid. The message names the header and never contains its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// There are more than [`MAX_HEADERS`].
    #[error("a subscriber can have at most {MAX_HEADERS} headers")]
    TooMany,
    /// The name is not a token, or too long. The error contains its first [`MAX_NAME`] characters.
    #[error(
        "the header name {0:?} must have 1 to {MAX_NAME} letters, digits or characters of !#$%&'*+-.^_`|~"
    )]
    Name(String),
    /// HTTP or Postrider sets this header.
    #[error("the header `{0}` cannot be set: HTTP or Postrider sets it")]
    Reserved(String),
    /// The header is given twice; names are case-insensitive.
    #[error("the header `{0}` is given twice")]
    Duplicate(String),
    /// The value contains a character that is not allowed.
    #[error(
        "the value of the header `{0}` must consist of visible ASCII, spaces and tabs, without a space or tab at either end"
    )]
    Value(String),
    /// The value has more than [`MAX_VALUE`] bytes.
    #[error("the value of the header `{0}` must have at most {MAX_VALUE} bytes")]
    ValueTooLong(String),
    /// All names and values together have more than [`MAX_TOTAL`] bytes.
    #[error("the names and values of all headers together must have at most {MAX_TOTAL} bytes")]
    TooLong,
    /// Stored headers are not in the format of [`CustomHeaders::to_bytes`].
    #[error("the stored headers cannot be read")]
    Stored,
}

impl CustomHeaders {
    /// Validates names and values.
    ///
    /// # Errors
    /// Returns the first violation, in the order of the headers.
    pub fn try_new(headers: impl IntoIterator<Item = (String, String)>) -> Result<Self, HeaderError> {
        let mut taken: Vec<(String, Zeroizing<String>)> = Vec::new();
        let mut total = 0;
        for (name, value) in headers {
            let value = Zeroizing::new(value);
            if taken.len() == MAX_HEADERS {
                return Err(HeaderError::TooMany);
            }
            let name = checked_name(name)?;
            if taken.iter().any(|(other, _)| *other == name) {
                return Err(HeaderError::Duplicate(name));
            }
            if value.len() > MAX_VALUE {
                return Err(HeaderError::ValueTooLong(name));
            }
            if !is_value(&value) {
                return Err(HeaderError::Value(name));
            }
            total += name.len() + value.len();
            if total > MAX_TOTAL {
                return Err(HeaderError::TooLong);
            }
            taken.push((name, value));
        }
        Ok(Self(taken))
    }

    /// Merges changes by name: a value replaces that of the header, or adds it at the end, and `None` removes it (RFC 7396).
    ///
    /// # Errors
    /// Fails as [`try_new`](Self::try_new) does, also if a name is invalid that is to be removed, or is given twice.
    ///
    /// ```
    /// use postrider_core::CustomHeaders;
    ///
    /// let headers = CustomHeaders::try_new([("x-a".into(), "1".into()), ("x-b".into(), "2".into())])?;
    /// let headers = headers.merged([("X-A".into(), None), ("x-c".into(), Some("3".into()))])?;
    /// assert_eq!(headers.iter().collect::<Vec<_>>(), [("x-b", "2"), ("x-c", "3")]);
    /// # Ok::<(), postrider_core::header::HeaderError>(())
    /// ```
    pub fn merged(
        self,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<Self, HeaderError> {
        let mut named: Vec<String> = Vec::new();
        let mut headers = self.0;
        for (name, value) in changes {
            let name = checked_name(name)?;
            if named.contains(&name) {
                return Err(HeaderError::Duplicate(name));
            }
            match (headers.iter_mut().find(|(other, _)| *other == name), value) {
                (Some((_, old)), Some(value)) => *old = Zeroizing::new(value),
                (None, Some(value)) => headers.push((name.clone(), Zeroizing::new(value))),
                (_, None) => headers.retain(|(other, _)| *other != name),
            }
            named.push(name);
        }
        Self::try_new(headers.into_iter().map(|(name, mut value)| (name, std::mem::take(&mut *value))))
    }

    /// Returns the names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the names, in order. Names are not secret.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the number of headers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Serialises the headers for sealing and storing: a JSON array of `[name, value]`.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Not with serde_json, whose buffer grows and so leaves copies of values in memory. At worst every byte is
        // escaped, and a pair has eight further bytes.
        let room = self.iter().map(|(name, value)| 2 * (name.len() + value.len()) + 8).sum::<usize>();
        let mut json = Zeroizing::new(Vec::with_capacity(room + 2));
        json.push(b'[');
        for (place, (name, value)) in self.iter().enumerate() {
            json.extend_from_slice(if place == 0 { b"[" } else { b",[" });
            push_string(&mut json, name);
            json.push(b',');
            push_string(&mut json, value);
            json.push(b']');
        }
        json.push(b']');
        json
    }

    /// Parses the output of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// Fails with [`HeaderError::Stored`] for any other format, and as [`try_new`](Self::try_new) does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        // Drops serde_json's error, which may contain a value.
        let pairs: Vec<(String, String)> = serde_json::from_slice(bytes).map_err(|_| HeaderError::Stored)?;
        Self::try_new(pairs)
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomHeaders")?;
        f.debug_list().entries(self.names()).finish()
    }
}

fn checked_name(mut name: String) -> Result<String, HeaderError> {
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_token_byte) {
        return Err(HeaderError::Name(name.chars().take(MAX_NAME).collect()));
    }
    name.make_ascii_lowercase();
    // CGI and its successors map `-` and `_` to the same character, so they would read `x_agent_id` as `X-Agent-ID`.
    let read_as = name.replace('_', "-");
    let reserved = RESERVED.contains(&read_as.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| read_as.starts_with(prefix));
    if reserved { Err(HeaderError::Reserved(name)) } else { Ok(name) }
}

/// Returns whether a byte is a `tchar` (RFC 9110, §5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether a text is a `field-value` (RFC 9110, §5.5) without obsolete bytes above ASCII.
fn is_value(value: &str) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = value.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_graphic() || is_blank(byte))
        && !bytes.first().is_some_and(is_blank)
        && !bytes.last().is_some_and(is_blank)
}

/// Appends a JSON string. Names and values contain no control character except the tab.
fn push_string(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\t' => json.extend_from_slice(br"\t"),
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(name: &str, value: &str) -> Result<CustomHeaders, HeaderError> {
        CustomHeaders::try_new([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn names_that_http_or_postrider_sets_are_rejected() {
        for name in [
            "Host",
            "connection",
            "Content-Length",
            "content-encoding",
            "CONTENT-TYPE",
            "content_length",
            "Transfer-Encoding",
            "TE",
            "trailer",
            "Upgrade",
            "Expect",
            "Keep-Alive",
            "Proxy-Authorization",
            "proxy-connection",
            "User-Agent",
            "Accept-Encoding",
            "traceparent",
            "Tracestate",
            "webhook-id",
            "Webhook-Signature",
            "webhook-timestamp",
            "webhook-anything",
            "X-Agent-Signature",
            "X-Agent-ID",
            "x_agent_id",
            "X-Event-Type",
            "x-Event_type",
            "Date",
            "Forwarded",
            "X-Forwarded-For",
            "via",
        ] {
            let error = one(name, "value").unwrap_err();
            assert_eq!(error, HeaderError::Reserved(name.to_ascii_lowercase()), "{name}");
        }
    }

    #[test]
    fn ordinary_headers_are_accepted() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "Cookie",
            "Accept",
            "x-agent",
            "x-webhook-token",
            "webhook",
            "hosts",
            "X-Event-Types",
            "Idempotency-Key",
            "!#$%&'*+-.^_`|~",
        ] {
            assert!(one(name, "value").is_ok(), "{name}");
        }
        for value in ["", "a b\tc", "\"\\\"", "~!", &"x".repeat(MAX_VALUE)] {
            assert_eq!(one("x-a", value).unwrap().iter().next(), Some(("x-a", value)));
        }
    }

    #[test]
    fn malformed_names_and_values_are_rejected() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", " ", "a b", "a:b", ":path", "a\r\nb", "a\0", "ä", "a\"", "(a)", "a/b", &long] {
            let shown = name.chars().take(MAX_NAME).collect();
            assert_eq!(one(name, "value").unwrap_err(), HeaderError::Name(shown), "{name:?}");
        }
        for value in ["a\r\nb: c", "a\n", "\r", "a\0b", "\x7f", "é", "\x1b[0m", " a", "a ", "\ta", "a\t", " "]
        {
            assert_eq!(one("X-A", value).unwrap_err(), HeaderError::Value("x-a".into()), "{value:?}");
        }
        let error = one("x-a", &"x".repeat(MAX_VALUE + 1)).unwrap_err();
        assert_eq!(error, HeaderError::ValueTooLong("x-a".into()));
    }

    #[test]
    fn too_many_too_long_and_repeated_headers_are_rejected() {
        let many = |count: usize, length: usize| {
            CustomHeaders::try_new((0..count).map(|number| (format!("x-{number:02}"), "v".repeat(length))))
        };
        assert_eq!(many(MAX_HEADERS, 1).unwrap().len(), MAX_HEADERS);
        assert_eq!(many(MAX_HEADERS + 1, 1).unwrap_err(), HeaderError::TooMany);
        // A name has four bytes, so four headers with values of 4,092 bytes have 16 KiB.
        assert!(many(4, MAX_VALUE - 4).is_ok());
        assert_eq!(many(5, MAX_VALUE - 4).unwrap_err(), HeaderError::TooLong);
        let twice = [("X-A".into(), "1".into()), ("x-a".into(), "2".into())];
        assert_eq!(CustomHeaders::try_new(twice).unwrap_err(), HeaderError::Duplicate("x-a".into()));
    }

    #[test]
    fn neither_debug_nor_errors_show_a_value() {
        let headers = one("x-a", "s3cret").unwrap();
        assert_eq!(format!("{headers:?}"), "CustomHeaders[\"x-a\"]");
        for error in [
            one("x-a", "s3cret\n").unwrap_err(),
            one("x-a", &"s3cret".repeat(1000)).unwrap_err(),
            one("host", "s3cret").unwrap_err(),
            CustomHeaders::from_bytes(br#"["s3cret"]"#).unwrap_err(),
        ] {
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn stored_bytes_are_validated() {
        assert_eq!(&*CustomHeaders::default().to_bytes(), b"[]");
        for bytes in ["", "{}", "null", "[[\"a\"]]", "[[\"a\",1]]", "[[\"a\",\"b\"]"] {
            assert_eq!(CustomHeaders::from_bytes(bytes.as_bytes()), Err(HeaderError::Stored), "{bytes}");
        }
        let reserved = CustomHeaders::from_bytes(br#"[["host","a"]]"#);
        assert_eq!(reserved, Err(HeaderError::Reserved("host".into())));
    }

    proptest! {
        #[test]
        fn headers_survive_storing(
            pairs in prop::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", "([!-~]([\t -~]{0,30}[!-~])?)?"), 0..20),
        ) {
            if let Ok(headers) = CustomHeaders::try_new(pairs) {
                let bytes = headers.to_bytes();
                prop_assert_eq!(&CustomHeaders::from_bytes(&bytes).unwrap(), &headers);
                let read: Vec<(String, String)> = serde_json::from_slice(&bytes).unwrap();
                let held: Vec<_> = headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
                prop_assert_eq!(read, held);
            }
        }

        #[test]
        fn an_accepted_header_fits_on_one_line(name in "\\PC{0,10}|[a-z-]{1,10}", value in "(?s).{0,20}") {
            if let Ok(headers) = one(&name, &value) {
                let (name, value) = headers.iter().next().unwrap();
                prop_assert!(!name.is_empty() && name.is_ascii() && !name.contains([':', ' ', '\t']));
                prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
                prop_assert!(value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
                prop_assert_eq!(value.trim(), value);
            }
        }
    }
}
