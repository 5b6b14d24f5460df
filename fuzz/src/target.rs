//! Targets, the egress proxy and `Retry-After`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postrider_core::retry::MAX_RETRY_AFTER;
use postrider_core::{AddressPolicy, TargetUrl, Timestamp};
use postrider_delivery::{ProxyUrl, RetryAfter};

/// An accepted URL parses to itself, can be requested over HTTP, and `Debug` does not show its query. If its host is an
/// address that is clearly not public, the address policy rejects it.
pub fn target_url(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let Ok(url) = TargetUrl::parse(text) else { return };
    assert_eq!(TargetUrl::parse(url.as_str()).as_ref(), Ok(&url), "a normalised URL parses to itself");
    assert!(url.as_str().len() <= TargetUrl::MAX_LENGTH);
    assert!(!url.host().is_empty() && !url.as_str().contains('#'));
    assert!(!url.redacted().contains('?') && !format!("{url:?}").contains('?'));

    // The HTTP client connects to the judged host and port.
    let uri: http::Uri = url.as_str().parse().expect("an accepted URL can be requested");
    assert_eq!(uri.host(), Some(url.host()));
    assert_eq!(uri.port_u16().unwrap_or(if url.is_https() { 443 } else { 80 }), url.port());
    assert!(!uri.authority().is_some_and(|authority| authority.as_str().contains('@')));

    let bare = url.host().trim_start_matches('[').trim_end_matches([']', '.']);
    assert_eq!(bare.parse::<IpAddr>().ok(), url.ip(), "a host that parses as an address is judged as one");
    if let Some(address) = url.ip() {
        let judged = AddressPolicy::public_only().judge_literal(&url);
        assert!(!is_plainly_private(address) || judged.is_err(), "{address} must be rejected");
    }
}

/// Returns whether the standard library classifies the address as not public: less precise than IANA's registries, but
/// independent of our table.
fn is_plainly_private(address: IpAddr) -> bool {
    let private = |v4: Ipv4Addr| {
        v4.is_private()
            || v4.is_loopback()
            || v4.is_link_local()
            || v4.is_broadcast()
            || v4.is_documentation()
            || v4.is_multicast()
            || v4.octets()[0] == 0
    };
    match address {
        IpAddr::V4(v4) => private(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

/// `Debug` of an accepted proxy URL shows the host and port, and no credentials.
pub fn proxy_url(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let Ok(proxy) = text.parse::<ProxyUrl>() else { return };
    let shown = format!("{proxy:?}");
    let shown = shown.strip_prefix("ProxyUrl(").and_then(|rest| rest.strip_suffix(')'));
    let shown = shown.expect("an accepted proxy has an authority");
    assert!(!shown.contains('@'), "{shown}");
    // The URL without credentials is the same proxy.
    let bare: ProxyUrl = shown.parse().expect("the shown URL is a proxy URL");
    assert_eq!(format!("{bare:?}"), format!("{proxy:?}"));
}

/// A delay is at most an hour, a date in the past gives zero, and digits are seconds. The first eight bytes are the time.
pub fn retry_after(data: &[u8]) {
    let Some((now, value)) = data.split_first_chunk::<8>() else { return };
    let now = Timestamp::from_millis(i64::from_le_bytes(*now));
    let asked = postrider_delivery::retry_after(value, now);
    assert!(asked.is_none_or(|delay| delay <= MAX_RETRY_AFTER));
    if let Some(RetryAfter::Until(date)) = RetryAfter::parse(value) {
        assert!(date > now || asked == Some(Duration::ZERO), "a date in the past gives no delay");
    }
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        let seconds = value
            .iter()
            .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        assert_eq!(asked, Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER)));
    }
}
