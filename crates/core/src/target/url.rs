//! The URLs of subscribers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Ports of services that do not speak HTTP and that a request could harm or probe, even if their address is allowed:
/// remote shells, mail, DNS, LDAP, SMB and common databases. Some of them execute commands that are hidden in a request's
/// body.
const FORBIDDEN_PORTS: [u16; 19] =
    [0, 22, 23, 25, 53, 110, 143, 389, 445, 465, 587, 636, 993, 995, 3306, 5432, 6379, 11211, 27017];

/// A URL that deliveries can be sent to, judged by its text alone.
///
/// It has the scheme `http` or `https`, a host, and at most 2,048 bytes. It has no user information, which would appear in
/// logs; no fragment, which is never sent; and no port of a well-known service that does not speak HTTP. Hosts are
/// normalised (URL Standard): names to lower case and Punycode, IPv4 addresses to four decimal numbers.
///
/// ```
/// use postrider_core::TargetUrl;
///
/// let url: TargetUrl = "https://Bücher.example/hook?token=t0p".parse()?;
/// assert_eq!(url.as_str(), "https://xn--bcher-kva.example/hook?token=t0p");
/// assert_eq!(url.redacted(), "https://xn--bcher-kva.example/hook");
/// assert_eq!("http://0x7f.1/".parse::<TargetUrl>()?.host(), "127.0.0.1");
/// assert!("https://user:pass@example.com/".parse::<TargetUrl>().is_err());
/// # Ok::<(), postrider_core::target::TargetUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetUrl(Url);

/// Why a text is not a URL that deliveries can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetUrlError {
    /// The text is not a URL.
    #[error("expected a URL such as https://example.com/path ({0})")]
    Syntax(url::ParseError),
    /// The scheme is neither `http` nor `https`.
    #[error("a URL must start with https:// or http://")]
    Scheme,
    /// The URL has no host, as in `https:///path`.
    #[error("a URL must have a host, as in https://example.com/path")]
    NoHost,
    /// The host is neither a DNS name nor an address.
    #[error("a URL's host must be a DNS name (letters, digits, `-`, `_` and dots) or an IP address")]
    Host,
    /// The URL contains a user name or a password.
    #[error("a URL must not contain a user name or password; use one of the subscriber's headers instead")]
    UserInfo,
    /// The URL has a part after `#`.
    #[error("a URL must not have a fragment (`#…`), which HTTP does not send")]
    Fragment,
    /// The URL is longer than [`TargetUrl::MAX_LENGTH`].
    #[error("a URL must have at most {} bytes", TargetUrl::MAX_LENGTH)]
    TooLong,
    /// The port belongs to a service that does not speak HTTP.
    #[error("port {0} is not allowed: it belongs to a service that does not speak HTTP")]
    Port(u16),
}

impl TargetUrl {
    /// The greatest length in bytes, both as given and normalised.
    pub const MAX_LENGTH: usize = 2048;

    /// Parses and normalises a URL.
    ///
    /// # Errors
    /// Fails if the text is not a URL, or breaks one of the rules above.
    pub fn parse(text: &str) -> Result<Self, TargetUrlError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(TargetUrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => TargetUrlError::NoHost,
            url::ParseError::IdnaError => TargetUrlError::Host,
            other => TargetUrlError::Syntax(other),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetUrlError::Scheme);
        }
        if !has_authority(text) {
            return Err(TargetUrlError::NoHost);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetUrlError::UserInfo);
        }
        match url.host() {
            None => return Err(TargetUrlError::NoHost),
            Some(Host::Domain(name)) if !is_dns_name(name) => return Err(TargetUrlError::Host),
            Some(_) => {}
        }
        if url.fragment().is_some() {
            return Err(TargetUrlError::Fragment);
        }
        if let Some(port) = url.port().filter(|port| FORBIDDEN_PORTS.contains(port)) {
            return Err(TargetUrlError::Port(port));
        }
        // Percent-encoding and Punycode can make the URL longer.
        if url.as_str().len() > Self::MAX_LENGTH {
            return Err(TargetUrlError::TooLong);
        }
        Ok(Self(url))
    }

    /// Returns the normalised URL. Its query may contain a secret: show [`redacted`](Self::redacted) instead.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Returns the host as an address; `None` if it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Returns the port; the scheme's default if the URL has none.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Returns whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns the URL with the values of its query masked: `https://example.com/hook?token=***`.
    pub fn masked(&self) -> String {
        match self.0.as_str().split_once('?') {
            Some((before, query)) => format!("{before}?{}", masked(query)),
            None => self.0.as_str().to_owned(),
        }
    }

    /// Returns the URL without its query, for logs.
    pub fn redacted(&self) -> &str {
        let url = self.0.as_str();
        url.split_once('?').map_or(url, |(before, _)| before)
    }
}

/// What is shown instead of a secret.
const MASK: &str = "***";

/// Masks the values of a query, and parts that have no name.
fn masked(query: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((name, _)) => format!("{name}={MASK}"),
        None if part.is_empty() => String::new(),
        None => MASK.to_owned(),
    };
    query.split('&').map(part).collect::<Vec<_>>().join("&")
}

/// Returns whether a host that is not an address could be a DNS name.
///
/// The URL Standard allows more characters, which `http::Uri` and certificates reject.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    name.len() <= 253 && name.split('.').all(label)
}

impl FromStr for TargetUrl {
    type Err = TargetUrlError;

    fn from_str(text: &str) -> Result<Self, TargetUrlError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TargetUrl {
    type Error = TargetUrlError;

    fn try_from(text: String) -> Result<Self, TargetUrlError> {
        Self::parse(&text)
    }
}

impl From<TargetUrl> for String {
    fn from(url: TargetUrl) -> Self {
        url.0.into()
    }
}

/// Shows the redacted form.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({})", self.redacted())
    }
}

/// Returns whether a host directly follows `scheme://`. Like browsers, the `url` crate reads `https:///path` and
/// `https:path` as having the host `path` (URL Standard, "special authority slashes state").
fn has_authority(text: &str) -> bool {
    let rest = text.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    rest.is_some_and(|rest| !rest.starts_with(['/', '\\', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_values_of_a_query_are_masked() {
        for (url, masked) in [
            ("https://a.example/p", "https://a.example/p"),
            ("https://a.example/p?token=s3cret&x=1", "https://a.example/p?token=***&x=***"),
            ("https://a.example/?s3cret", "https://a.example/?***"),
            ("https://a.example/?a=b=c&&d", "https://a.example/?a=***&&***"),
            ("https://a.example/?", "https://a.example/?"),
        ] {
            assert_eq!(url.parse::<TargetUrl>().unwrap().masked(), masked);
        }
    }

    #[test]
    fn hosts_are_normalised() {
        for (text, host) in [
            ("http://2130706433/", "127.0.0.1"),
            ("http://0x7f.1/", "127.0.0.1"),
            ("http://0177.0.0.1/", "127.0.0.1"),
            ("http://127.1/", "127.0.0.1"),
            ("http://127.0.0.1./", "127.0.0.1"),
            ("http://１２７.0.0.1/", "127.0.0.1"),
            ("http://%31%32%37.0.0.1/", "127.0.0.1"),
            ("http://[::FFFF:127.0.0.1]/", "[::ffff:7f00:1]"),
            ("http://[0:0::1]/", "[::1]"),
            ("HTTPS://EXAMPLE.com", "example.com"),
            ("https://example.com./x", "example.com."),
            ("https://a_b.example/", "a_b.example"),
            ("https://@example.com/", "example.com"),
        ] {
            let url = TargetUrl::parse(text).unwrap();
            assert_eq!(url.host(), host, "{text}");
            assert_eq!(url.ip().is_some(), url.host().contains(['[']) || url.host() == "127.0.0.1", "{text}");
        }
    }

    #[test]
    fn an_invalid_target_is_rejected_with_a_reason() {
        let syntax = TargetUrlError::Syntax;
        for (text, error) in [
            ("", syntax(url::ParseError::RelativeUrlWithoutBase)),
            ("/hook", syntax(url::ParseError::RelativeUrlWithoutBase)),
            ("https://", TargetUrlError::NoHost),
            ("https:///path", TargetUrlError::NoHost),
            ("https:path", TargetUrlError::NoHost),
            ("https:/path", TargetUrlError::NoHost),
            ("https:\\\\host", TargetUrlError::NoHost),
            ("http://256.1.1.1/", syntax(url::ParseError::InvalidIpv4Address)),
            ("http://1.2.3.4.5/", syntax(url::ParseError::InvalidIpv4Address)),
            ("http://a:65536/", syntax(url::ParseError::InvalidPort)),
            ("http://[fe80::1%25eth0]/", syntax(url::ParseError::InvalidIpv6Address)),
            ("http://a b/", TargetUrlError::Host),
            ("ftp://example.com/", TargetUrlError::Scheme),
            ("file:///etc/passwd", TargetUrlError::Scheme),
            ("javascript:alert(1)", TargetUrlError::Scheme),
            ("unix:/run/x.sock", TargetUrlError::Scheme),
            ("http://a\"b/", TargetUrlError::Host),
            ("http://a{b}/", TargetUrlError::Host),
            ("http://a..b/", TargetUrlError::Host),
            ("http://./", TargetUrlError::Host),
            ("http://user@example.com/", TargetUrlError::UserInfo),
            ("http://:pass@example.com/", TargetUrlError::UserInfo),
            ("http://example.com/#top", TargetUrlError::Fragment),
            ("http://example.com/#", TargetUrlError::Fragment),
            ("http://example.com:25/", TargetUrlError::Port(25)),
            ("https://example.com:6379/", TargetUrlError::Port(6379)),
            ("https://example.com:0/", TargetUrlError::Port(0)),
        ] {
            assert_eq!(TargetUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_length_limit_applies_before_and_after_encoding() {
        let path = |letter: &str, times: usize| format!("http://example.com/{}", letter.repeat(times));
        assert!(TargetUrl::parse(&path("a", 2048 - 19)).is_ok());
        assert_eq!(TargetUrl::parse(&path("a", 2049 - 19)), Err(TargetUrlError::TooLong));
        assert_eq!(
            TargetUrl::parse(&path("é", 1000)),
            Err(TargetUrlError::TooLong),
            "six bytes when encoded"
        );
        assert_eq!(TargetUrl::parse(&format!("http://{}/", "a".repeat(64))), Err(TargetUrlError::Host));
    }

    #[test]
    fn the_port_defaults_to_that_of_the_scheme() {
        for (text, port) in
            [("http://a/", 80), ("https://a/", 443), ("http://a:443/", 443), ("https://a:8443", 8443)]
        {
            assert_eq!(TargetUrl::parse(text).unwrap().port(), port, "{text}");
        }
    }

    #[test]
    fn neither_debug_nor_redacted_shows_the_query() {
        let url = TargetUrl::parse("https://example.com:8443/a/b?key=t0psecret").unwrap();
        assert_eq!(url.redacted(), "https://example.com:8443/a/b");
        assert_eq!(format!("{url:?}"), "TargetUrl(https://example.com:8443/a/b)");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic_and_a_normalised_url_stays_the_same(text in "\\PC{0,40}") {
            if let Ok(url) = TargetUrl::parse(&text) {
                prop_assert_eq!(TargetUrl::parse(url.as_str()), Ok(url));
            }
        }

        #[test]
        fn an_accepted_url_follows_the_rules(
            rest in "(http|https|ftp)://([a-z0-9.:@\\[\\]%_-]{1,12})(:[0-9]{1,5})?(/[a-z?#%\\\\ ]{0,8})?",
        ) {
            if let Ok(url) = TargetUrl::parse(&rest) {
                prop_assert!(url.as_str().starts_with("http://") || url.as_str().starts_with("https://"));
                prop_assert!(!url.host().is_empty());
                prop_assert!(!url.as_str().contains('#'));
                prop_assert!(!FORBIDDEN_PORTS.contains(&url.port()));
                prop_assert!(url.as_str().is_ascii());
            }
        }

        #[test]
        fn every_notation_of_an_ipv4_address_is_normalised(bits: u32, form in 0_usize..5) {
            let [a, b, c, d] = bits.to_be_bytes();
            let host = match form {
                0 => format!("{bits}"),
                1 => format!("{bits:#x}"),
                2 => format!("0{bits:o}"),
                3 => format!("{a:#x}.0{b:o}.{}", u16::from_be_bytes([c, d])),
                _ => format!("{a}.{b}.{c}.{d}."),
            };
            let url = TargetUrl::parse(&format!("http://{host}/")).unwrap();
            prop_assert_eq!(url.ip(), Some(IpAddr::from(bits.to_be_bytes())));
        }
    }
}
