//! The URL of an egress proxy.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::{Host, Url};
use zeroize::Zeroizing;

/// The URL of an egress proxy: `http://`, `socks5://` or `socks5h://`, `[user:password@]host[:port]`. Clones are cheap. `Debug`
/// and `Display` show no credentials.
///
/// ```
/// use postrider_core::ProxyUrl;
///
/// let proxy: ProxyUrl = "socks5://user:s3cret@proxy.internal".parse()?;
/// assert_eq!(proxy.to_string(), "socks5://***:***@proxy.internal:1080");
/// assert_eq!(format!("{proxy:?}"), "ProxyUrl(socks5://proxy.internal:1080)");
/// assert!("https://proxy.internal".parse::<ProxyUrl>().is_err());
/// # Ok::<(), postrider_core::ProxyUrlError>(())
/// ```
#[derive(Clone)]
pub struct ProxyUrl(Arc<Parts>);

struct Parts {
    text: Zeroizing<String>,
    protocol: ProxyProtocol,
    host: String,
    port: u16,
    credentials: Option<ProxyCredentials>,
}

/// How a proxy is asked to connect to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP CONNECT over plain TCP (RFC 9110, §9.3.6).
    Http,
    /// SOCKS version 5 (RFC 1928), with addresses.
    Socks5,
    /// The same with host names, which the proxy resolves.
    Socks5h,
}

/// A proxy's user name and password, percent-decoded.
pub struct ProxyCredentials {
    /// The user name, of 1 to 255 bytes without a colon or control characters.
    pub user: Zeroizing<Vec<u8>>,
    /// The password, of at most 255 bytes without control characters.
    pub password: Zeroizing<Vec<u8>>,
}

/// Why a text is not the URL of a proxy. The message contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// The text is not a URL, has no host, or is too long.
    #[error("a proxy URL must have the form http://user:password@host:port, of at most 2,048 bytes")]
    Syntax,
    /// The scheme is another one.
    #[error("a proxy URL must start with http://, socks5:// or socks5h://")]
    Scheme,
    /// The URL has a path, a query or a fragment.
    #[error("a proxy URL must end after the host and port")]
    Path,
    /// The credentials cannot be sent to a proxy.
    #[error(
        "a proxy's user name and password must have at most 255 bytes each and no control characters; the user name \
         must not be empty or contain a colon"
    )]
    Credentials,
}

impl ProxyProtocol {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }
}

/// What `Display` shows instead of credentials.
const MASK: &str = "***:***@";

impl ProxyUrl {
    /// The greatest number of bytes.
    pub const MAX_BYTES: usize = 2048;

    /// Returns the URL as it was given, with its credentials.
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// Returns how to ask the proxy.
    pub fn protocol(&self) -> ProxyProtocol {
        self.0.protocol
    }

    /// Returns whether the proxy resolves the host names of receivers.
    pub fn resolves_names(&self) -> bool {
        self.0.protocol == ProxyProtocol::Socks5h
    }

    /// Returns the proxy's own host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Returns the proxy's own port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Returns the credentials, if there are any.
    pub fn credentials(&self) -> Option<&ProxyCredentials> {
        self.0.credentials.as_ref()
    }

    /// Returns whether a text is what `Display` shows of a URL with credentials.
    pub fn is_masked(text: &str) -> bool {
        text.contains(MASK)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, credentials: &str) -> fmt::Result {
        let Parts { protocol, host, port, .. } = &*self.0;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{credentials}{open}{host}{close}:{port}", protocol.scheme())
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        if text.len() > Self::MAX_BYTES {
            return Err(ProxyUrlError::Syntax);
        }
        let url = Url::parse(text).map_err(|_| ProxyUrlError::Syntax)?;
        let (protocol, default_port) = match url.scheme() {
            "http" => (ProxyProtocol::Http, 80),
            "socks5" => (ProxyProtocol::Socks5, 1080),
            "socks5h" => (ProxyProtocol::Socks5h, 1080),
            _ => return Err(ProxyUrlError::Scheme),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::Path);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(ProxyUrlError::Syntax)?;
        // Of `http` URLs only, the parser knows what a host may be.
        let host = match Host::parse(host).map_err(|_| ProxyUrlError::Syntax)? {
            Host::Domain(name) => name,
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let (port, credentials) = (url.port().unwrap_or(default_port), credentials(&url)?);
        let text = Zeroizing::new(text.to_owned());
        Ok(Self(Arc::new(Parts { text, protocol, host, port, credentials })))
    }
}

fn credentials(url: &Url) -> Result<Option<ProxyCredentials>, ProxyUrlError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    let fits = (1..=255).contains(&user.len()) && password.len() <= 255;
    if !fits || user.contains(&b':') || user.iter().chain(&password).any(u8::is_ascii_control) {
        return Err(ProxyUrlError::Credentials);
    }
    Ok(Some(ProxyCredentials { user: user.into(), password: password.into() }))
}

/// Shows the URL without its credentials.
impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(")?;
        self.show(f, "")?;
        f.write_str(")")
    }
}

/// Shows the URL with its credentials masked.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, if self.0.credentials.is_some() { MASK } else { "" })
    }
}

impl PartialEq for ProxyUrl {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for ProxyUrl {}

impl Hash for ProxyUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.as_str().hash(state);
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyCredentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ProxyUrl {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        for scheme in ["http", "socks5", "socks5h"] {
            let proxy = parse(&format!("{scheme}://us%20er:p%40ss@proxy.example:3128"));
            let credentials = proxy.credentials().unwrap();
            assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"us er"[..], &b"p@ss"[..]));
            let shown = format!("{proxy:?} {proxy} {credentials:?}");
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains("us"), "{shown}");
            assert_eq!(proxy.to_string(), format!("{scheme}://***:***@proxy.example:3128"));
            assert!(ProxyUrl::is_masked(&proxy.to_string()) && !ProxyUrl::is_masked(proxy.expose()));
        }
    }

    #[test]
    fn hosts_and_ports_are_as_given_or_implied() {
        for (text, host, port, shown) in [
            ("http://proxy.example", "proxy.example", 80, "http://proxy.example:80"),
            ("http://[::1]:3128/", "::1", 3128, "http://[::1]:3128"),
            ("socks5://10.0.0.1", "10.0.0.1", 1080, "socks5://10.0.0.1:1080"),
            ("socks5h://Proxy.Example:9", "proxy.example", 9, "socks5h://proxy.example:9"),
            ("socks5://[fd00::1]", "fd00::1", 1080, "socks5://[fd00::1]:1080"),
        ] {
            let proxy = parse(text);
            assert_eq!((proxy.host(), proxy.port(), proxy.to_string().as_str()), (host, port, shown));
        }
        assert!(parse("socks5h://a").resolves_names() && !parse("socks5://a").resolves_names());
        assert_ne!(parse("socks5://a:b@c"), parse("socks5://a:d@c"));
    }

    #[test]
    fn a_url_that_cannot_be_a_proxy_is_rejected() {
        let long = format!("http://{}", "a".repeat(2048));
        let user = format!("http://{}@proxy", "a".repeat(256));
        for (text, error) in [
            ("", ProxyUrlError::Syntax),
            ("socks5://", ProxyUrlError::Syntax),
            ("socks5://a b", ProxyUrlError::Syntax),
            (&long, ProxyUrlError::Syntax),
            ("proxy:3128", ProxyUrlError::Scheme),
            ("https://proxy:3128", ProxyUrlError::Scheme),
            ("socks4://proxy:3128", ProxyUrlError::Scheme),
            ("http://proxy:3128/path", ProxyUrlError::Path),
            ("socks5://proxy:3128/path", ProxyUrlError::Path),
            ("http://proxy:3128/?a", ProxyUrlError::Path),
            ("http://a%3Ab:c@proxy:3128", ProxyUrlError::Credentials),
            ("socks5://:c@proxy:3128", ProxyUrlError::Credentials),
            ("http://a:c%0D%0A@proxy:3128", ProxyUrlError::Credentials),
            (&user, ProxyUrlError::Credentials),
        ] {
            assert_eq!(text.parse::<ProxyUrl>().unwrap_err(), error, "{text}");
        }
    }
}
