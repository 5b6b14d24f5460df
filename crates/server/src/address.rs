//! The address from which a request comes.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Returns the address of the caller: the other end of the connection or, if that is a trusted proxy, the last address of
/// `X-Forwarded-For` that is not a trusted proxy's. `None` if the connection is not known, as in an application that serves
/// the API itself and does not say.
pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = extensions.get::<Peer>().map(|Peer(address)| *address);
    let peer = peer
        .or_else(|| extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip()))?;
    Some(behind(peer.to_canonical(), headers, trusted))
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer;
    // Each proxy appends the address that it sees. Everything before the first one that is not trusted may be invented.
    let given = headers.get_all(FORWARDED).into_iter().rev();
    let mut entries = given.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    while is_trusted(&nearest)
        && let Some(address) = entries.next().and_then(parse)
    {
        nearest = address;
    }
    nearest
}

/// Reads an address, which some proxies write with a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let address = entry.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        extensions.insert(Peer(peer.parse().unwrap()));
        of(&extensions, &headers, &trusted).unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(address("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "the client itself says so");
        assert_eq!(address("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_the_client_has_added_does_not_count() {
        for forwarded in [
            &["1.1.1.1, 198.51.100.7"][..],
            &["1.1.1.1, 198.51.100.7, 10.0.0.2"],
            &["1.1.1.1", "198.51.100.7", "10.0.0.2,10.0.0.3"],
            &["10.9.9.9, 198.51.100.7,fd00::1"],
            &["nonsense, 198.51.100.7:4711"],
        ] {
            assert_eq!(address("10.0.0.1", forwarded), "198.51.100.7", "{forwarded:?}");
        }
        assert_eq!(address("10.0.0.1", &["1.1.1.1, nonsense"]), "10.0.0.1", "the proxy wrote nonsense");
        assert_eq!(address("10.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(address("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(address("10.0.0.1", &["10.0.0.2, 10.0.0.3"]), "10.0.0.2", "all of them are proxies");
    }

    #[test]
    fn an_unknown_connection_has_no_address() {
        assert_eq!(of(&Extensions::new(), &HeaderMap::new(), &[]), None);
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5))));
        assert_eq!(of(&extensions, &HeaderMap::new(), &[]), Some("192.0.2.1".parse().unwrap()));
    }
}
