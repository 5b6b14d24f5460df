//! The URL of a subscriber.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Ports of services that are not HTTP and that a request could harm or probe, even where their
/// address is allowed: remote shells, mail, DNS, LDAP, SMB and the usual databases. The first group
/// speaks line protocols that act on commands buried in a request's body.
const REFUSED_PORTS: [u16; 19] =
    [0, 22, 23, 25, 53, 110, 143, 389, 445, 465, 587, 636, 993, 995, 3306, 5432, 6379, 11211, 27017];

/// A URL that deliveries can be sent to, as far as its text can tell.
///
/// `http` or `https`; a host; no user information, which would end up in places where secrets do not
/// belong; no fragment, which is never sent; at most 2048 bytes; no port of a well-known service
/// that is not HTTP. Hosts are kept in their normal form: names in lower case and punycode, IPv4
/// addresses with four decimal numbers however they were written.
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
pub enum TargetUrlError {
    /// Not a URL at all.
    #[error("this is not a URL ({0}); it must look like https://example.com/path")]
    Syntax(url::ParseError),
    /// Neither `http` nor `https`.
    #[error("a URL must start with https:// or http://")]
    Scheme,
    /// No host, as in `https:///path`.
    #[error("a URL must have a host, as in https://example.com/path")]
    NoHost,
    /// A host that is neither a name of DNS nor an address.
    #[error("a URL's host must be a DNS name (letters, digits, `-`, `_` and dots) or an IP address")]
    Host,
    /// A user name or a password.
    #[error("a URL must not have a user name or password; use a header of the subscriber instead")]
    UserInfo,
    /// A part after `#`.
    #[error("a URL must not have a fragment (`#…`): it would never be sent")]
    Fragment,
    /// Over 2048 bytes.
    #[error("a URL has at most {} bytes", TargetUrl::MAX_LENGTH)]
    TooLong,
    /// The port of a service that does not speak HTTP.
    #[error("port {0} belongs to a service that does not speak HTTP")]
    Port(u16),
}

impl TargetUrl {
    /// How many bytes a URL may have, as given and in its normal form.
    pub const MAX_LENGTH: usize = 2048;

    /// From a text.
    ///
    /// # Errors
    /// If the text is no URL or not one that deliveries can be sent to.
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
        if let Some(port) = url.port().filter(|port| REFUSED_PORTS.contains(port)) {
            return Err(TargetUrlError::Port(port));
        }
        // Percent-encoding and punycode make some texts longer.
        if url.as_str().len() > Self::MAX_LENGTH {
            return Err(TargetUrlError::TooLong);
        }
        Ok(Self(url))
    }

    /// The URL in its normal form. Its query may hold a secret: show [`redacted`](Self::redacted) instead.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host: a name, an IPv4 address, or an IPv6 address within brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The host as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// The port, also where it is the scheme's own.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The URL without its query, for logs.
    pub fn redacted(&self) -> &str {
        let url = self.0.as_str();
        url.split_once('?').map_or(url, |(before, _)| before)
    }
}

/// Whether a host that is no address could be a name of DNS, as written there.
///
/// The URL standard lets more characters through, which `http::Uri` and certificates then refuse.
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

/// Prints the redacted form.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({})", self.redacted())
    }
}

/// Whether a host follows `scheme://` at once. The `url` crate, as browsers do, takes `https:///path`
/// and `https:path` for the host `path` (URL Standard, "special authority slashes state").
fn has_authority(text: &str) -> bool {
    let rest = text.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    rest.is_some_and(|rest| !rest.starts_with(['/', '\\', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_come_out_in_their_normal_form() {
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
    fn what_cannot_be_a_target_is_refused_with_its_reason() {
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
    fn length_counts_before_and_after_encoding() {
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
    fn ports_are_those_that_are_connected_to() {
        for (text, port) in
            [("http://a/", 80), ("https://a/", 443), ("http://a:443/", 443), ("https://a:8443", 8443)]
        {
            assert_eq!(TargetUrl::parse(text).unwrap().port(), port, "{text}");
        }
    }

    #[test]
    fn nothing_printed_holds_the_query() {
        let url = TargetUrl::parse("https://example.com:8443/a/b?key=t0psecret").unwrap();
        assert_eq!(url.redacted(), "https://example.com:8443/a/b");
        assert_eq!(format!("{url:?}"), "TargetUrl(https://example.com:8443/a/b)");
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic_and_what_passes_stays_the_same(text in "\\PC{0,40}") {
            if let Ok(url) = TargetUrl::parse(&text) {
                prop_assert_eq!(TargetUrl::parse(url.as_str()), Ok(url));
            }
        }

        #[test]
        fn what_passes_keeps_the_rules(
            rest in "(http|https|ftp)://([a-z0-9.:@\\[\\]%_-]{1,12})(:[0-9]{1,5})?(/[a-z?#%\\\\ ]{0,8})?",
        ) {
            if let Ok(url) = TargetUrl::parse(&rest) {
                prop_assert!(url.as_str().starts_with("http://") || url.as_str().starts_with("https://"));
                prop_assert!(!url.host().is_empty());
                prop_assert!(!url.as_str().contains('#'));
                prop_assert!(!REFUSED_PORTS.contains(&url.port()));
                prop_assert!(url.as_str().is_ascii());
            }
        }

        #[test]
        fn every_way_to_write_an_ipv4_address_is_that_address(bits: u32, form in 0_usize..5) {
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
