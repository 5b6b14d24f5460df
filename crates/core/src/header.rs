//! The headers that a subscriber adds to its requests.

use std::fmt;

use zeroize::Zeroizing;

/// How many headers a subscriber may add.
pub const MAX_HEADERS: usize = 32;
/// How many characters a name may have.
pub const MAX_NAME: usize = 128;
/// How many bytes a value may have.
pub const MAX_VALUE: usize = 4096;
/// How many bytes all names and values may have together.
pub const MAX_TOTAL: usize = 16 * 1024;

/// Names that the protocol or Postrider owns. Lower case, with `-` for `_`.
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
    // Told by intermediaries or by the moment, so a fixed value is never true.
    "date",
    "forwarded",
    "via",
    // Postrider's own: design §4.
    "accept-encoding",
    "content-type",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-event-type",
];

/// Beginnings of further such names.
const RESERVED_PREFIXES: &[&str] =
    &["postrider-", "proxy-", "webhook-", "x-agent-", "x-forwarded-", "x-postrider-"];

/// The headers that a subscriber adds, in the order they were given.
///
/// Names are tokens (RFC 9110, §5.6.2), lower-cased, each there once, and none of those that the protocol
/// or Postrider owns: `host`, `content-length`, `user-agent`, `webhook-…`, `x-agent-…` and their like,
/// also when written with `_`, which many servers read as `-`. Values are visible ASCII with spaces and
/// tabs inside. There are at most [`MAX_HEADERS`], of [`MAX_TOTAL`] bytes together.
///
/// Values are secret, since they often hold credentials: `Debug` shows names only.
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

/// Why headers are refused. Names the header, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// More headers than a subscriber may add.
    #[error("a subscriber has at most {MAX_HEADERS} headers")]
    TooMany,
    /// Not a token, or too long. The name is cut to [`MAX_NAME`] characters.
    #[error("the header name {0:?} is not 1 to {MAX_NAME} letters, digits or any of !#$%&'*+-.^_`|~")]
    Name(String),
    /// Owned by the protocol or by Postrider.
    #[error("the header `{0}` belongs to the protocol or to Postrider and cannot be set")]
    Reserved(String),
    /// There twice; names ignore case.
    #[error("the header `{0}` is given twice")]
    Duplicate(String),
    /// Characters that a header cannot hold.
    #[error(
        "the value of the header `{0}` may hold visible ASCII, spaces and tabs, and neither starts nor ends with a space or tab"
    )]
    Value(String),
    /// A value of more than [`MAX_VALUE`] bytes.
    #[error("the value of the header `{0}` is longer than {MAX_VALUE} bytes")]
    ValueTooLong(String),
    /// More than [`MAX_TOTAL`] bytes.
    #[error("the headers are longer than {MAX_TOTAL} bytes together")]
    TooLong,
    /// Stored headers that are not what [`CustomHeaders::to_bytes`] makes.
    #[error("the stored headers cannot be read")]
    Stored,
}

impl CustomHeaders {
    /// Takes names and values.
    ///
    /// # Errors
    /// The first rule that is broken, in the order given.
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

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names, in order; these may be shown.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As JSON, an array of `[name, value]`, to be sealed and stored.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Written here because a serialiser's buffer grows, and leaves copies of values behind. Every
        // byte may be escaped, and a pair has eight more: `["","",],`.
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

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// [`HeaderError::Stored`] for anything else, and what [`try_new`](Self::try_new) refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        // serde_json's error may repeat a value, so it goes no further.
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
    // CGI and its heirs turn both into one, so `x_agent_id` would pass for `X-Agent-ID` there.
    let read_as = name.replace('_', "-");
    let reserved = RESERVED.contains(&read_as.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| read_as.starts_with(prefix));
    if reserved { Err(HeaderError::Reserved(name)) } else { Ok(name) }
}

/// `tchar` of RFC 9110, §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `field-value` of RFC 9110, §5.5, without its obsolete bytes above ASCII.
fn is_value(value: &str) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = value.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_graphic() || is_blank(byte))
        && !bytes.first().is_some_and(is_blank)
        && !bytes.last().is_some_and(is_blank)
}

/// Writes a JSON string. Names and values hold no control character but the tab.
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
    fn refuses_what_protocol_and_postrider_own() {
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
    fn accepts_what_subscribers_need() {
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
    fn refuses_malformed_names_and_values() {
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
    fn refuses_too_many_too_long_and_twice() {
        let many = |count: usize, length: usize| {
            CustomHeaders::try_new((0..count).map(|number| (format!("x-{number:02}"), "v".repeat(length))))
        };
        assert_eq!(many(MAX_HEADERS, 1).unwrap().len(), MAX_HEADERS);
        assert_eq!(many(MAX_HEADERS + 1, 1).unwrap_err(), HeaderError::TooMany);
        // A name is four bytes: four headers of 4092 are 16 KiB.
        assert!(many(4, MAX_VALUE - 4).is_ok());
        assert_eq!(many(5, MAX_VALUE - 4).unwrap_err(), HeaderError::TooLong);
        let twice = [("X-A".into(), "1".into()), ("x-a".into(), "2".into())];
        assert_eq!(CustomHeaders::try_new(twice).unwrap_err(), HeaderError::Duplicate("x-a".into()));
    }

    #[test]
    fn values_are_never_shown() {
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
    fn stored_bytes_are_checked() {
        assert_eq!(&*CustomHeaders::default().to_bytes(), b"[]");
        for bytes in ["", "{}", "null", "[[\"a\"]]", "[[\"a\",1]]", "[[\"a\",\"b\"]"] {
            assert_eq!(CustomHeaders::from_bytes(bytes.as_bytes()), Err(HeaderError::Stored), "{bytes}");
        }
        let reserved = CustomHeaders::from_bytes(br#"[["host","a"]]"#);
        assert_eq!(reserved, Err(HeaderError::Reserved("host".into())));
    }

    proptest! {
        #[test]
        fn come_back_from_bytes_as_they_were(
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
        fn whatever_is_accepted_fits_on_one_line(name in "\\PC{0,10}|[a-z-]{1,10}", value in "(?s).{0,20}") {
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
