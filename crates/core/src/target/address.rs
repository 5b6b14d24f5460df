//! The addresses that deliveries may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::TargetUrl;

/// A range of addresses, and its name in IANA's registries.
type Range<Net> = (Net, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8, name: &'static str) -> Range<Ipv4Net> {
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length), name)
}

const fn v6(a: u16, b: u16, length: u8, name: &'static str) -> Range<Ipv6Net> {
    (Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length), name)
}

/// IANA's IPv4 special-purpose registry, multicast, and the one cloud metadata address outside of both. Includes the
/// ranges that the registry calls globally reachable (AMT, AS112), because no receiver of webhooks has such an address.
const FORBIDDEN_V4: [Range<Ipv4Net>; 19] = [
    v4(0, 0, 0, 0, 8, "this network"),
    v4(10, 0, 0, 0, 8, "private use"),
    v4(100, 64, 0, 0, 10, "shared address space"),
    v4(127, 0, 0, 0, 8, "loopback"),
    v4(168, 63, 129, 16, 32, "cloud metadata"),
    v4(169, 254, 0, 0, 16, "link local"),
    v4(172, 16, 0, 0, 12, "private use"),
    v4(192, 0, 0, 0, 24, "IETF protocol assignments"),
    v4(192, 0, 2, 0, 24, "documentation"),
    v4(192, 31, 196, 0, 24, "AS112"),
    v4(192, 52, 193, 0, 24, "AMT"),
    v4(192, 88, 99, 0, 24, "6to4 relay anycast"),
    v4(192, 168, 0, 0, 16, "private use"),
    v4(192, 175, 48, 0, 24, "AS112"),
    v4(198, 18, 0, 0, 15, "benchmarking"),
    v4(198, 51, 100, 0, 24, "documentation"),
    v4(203, 0, 113, 0, 24, "documentation"),
    v4(224, 0, 0, 0, 4, "multicast"),
    v4(240, 0, 0, 0, 4, "reserved"),
];

/// Global unicast. All other IPv6 addresses (mapped, compatible and translated IPv4, unique local, link local, multicast,
/// …) are forbidden.
const ALLOWED_V6: Range<Ipv6Net> = v6(0x2000, 0, 3, "global unicast");

/// The ranges within global unicast that are not public. The first includes Teredo.
const FORBIDDEN_V6: [Range<Ipv6Net>; 4] = [
    v6(0x2001, 0, 23, "IETF protocol assignments"),
    v6(0x2001, 0xdb8, 32, "documentation"),
    v6(0x2002, 0, 16, "6to4"),
    v6(0x3fff, 0, 20, "documentation"),
];

const NAT64: Range<Ipv6Net> = v6(0x64, 0xff9b, 96, "NAT64");

/// The addresses that deliveries may connect to: public ones, and the networks that an operator allows.
///
/// ```
/// use postrider_core::AddressPolicy;
///
/// let policy = AddressPolicy::public_only().allowing(vec!["10.1.0.0/16".parse()?]);
/// assert!(policy.judge("93.184.216.34".parse()?).is_ok());
/// assert!(policy.judge("10.1.2.3".parse()?).is_ok());
/// assert!(policy.judge("10.2.0.1".parse()?).is_err());
/// assert!(policy.judge("::1".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
    nat64: bool,
}

/// An address that deliveries may not connect to.
///
/// The message contains neither the address nor the range, because strangers see it and must not learn about the
/// internal network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's address is not public, and deliveries may only go to public addresses")]
pub struct Forbidden {
    address: IpAddr,
    range: &'static str,
}

impl Forbidden {
    /// Returns the address. Show it to operators only.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns IANA's name for the address's range. Show it to operators only.
    pub fn range(&self) -> &'static str {
        self.range
    }
}

impl AddressPolicy {
    /// Allows public addresses only.
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Allows the addresses in `nets` as well, public or not.
    pub fn allowing(mut self, nets: Vec<IpNet>) -> Self {
        self.allowed.extend(nets);
        self
    }

    /// Judges addresses in `64:ff9b::/96` by the IPv4 address that they embed (RFC 6052, §2.1), for networks that reach
    /// IPv4 hosts through DNS64 and NAT64. Without this they are forbidden.
    pub fn judging_nat64(mut self) -> Self {
        self.nat64 = true;
        self
    }

    /// Judges one address.
    ///
    /// # Errors
    /// Fails if the address is forbidden.
    pub fn judge(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.is_allowed(address) {
            return Ok(());
        }
        let range = match address {
            IpAddr::V4(v4) => range_v4(v4),
            IpAddr::V6(v6) if self.nat64 && NAT64.0.contains(&v6) => {
                return self.judge(low_32_bits(v6).into()).map_err(|inner| Forbidden { address, ..inner });
            }
            IpAddr::V6(v6) => range_v6(v6),
        };
        range.map_or(Ok(()), |range| Err(Forbidden { address, range }))
    }

    /// Judges all addresses of a name. One forbidden address rejects them all: a name that resolves to public and internal
    /// addresses suggests an attack.
    ///
    /// # Errors
    /// Fails if any of the addresses is forbidden.
    pub fn judge_all(&self, addresses: &[IpAddr]) -> Result<(), Forbidden> {
        addresses.iter().try_for_each(|address| self.judge(*address))
    }

    /// Judges the host of a URL if it is an address. A name passes: its addresses are judged once it is resolved.
    ///
    /// # Errors
    /// Fails if the host is a forbidden address.
    pub fn judge_literal(&self, url: &TargetUrl) -> Result<(), Forbidden> {
        url.ip().map_or(Ok(()), |address| self.judge(address))
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let mapped = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let contains = |address: IpAddr| self.allowed.iter().any(|net| net.contains(&address));
        contains(address) || mapped.is_some_and(contains)
    }
}

fn range_v4(address: Ipv4Addr) -> Option<&'static str> {
    FORBIDDEN_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, name)| *name)
}

fn range_v6(address: Ipv6Addr) -> Option<&'static str> {
    if !ALLOWED_V6.0.contains(&address) {
        return Some("outside of global unicast");
    }
    FORBIDDEN_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, name)| *name)
}

fn low_32_bits(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first and last address of each forbidden range, from IANA's special-purpose address registries for IPv4 and
    /// IPv6. Written independently of the tables above.
    const FORBIDDEN: &[(&str, &str)] = &[
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("168.63.129.16", "168.63.129.16"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.31.196.0", "192.31.196.255"),
        ("192.52.193.0", "192.52.193.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("192.175.48.0", "192.175.48.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn listed(address: IpAddr) -> bool {
        FORBIDDEN.iter().any(|(first, last)| {
            let (first, last) = (ip(first), ip(last));
            first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address)
        })
    }

    /// Returns the previous (`-1`) or next (`+1`) address; `None` at the end of the family.
    fn neighbour(address: IpAddr, step: i8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => {
                v4.to_bits().checked_add_signed(step.into()).map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(v6) => {
                v6.to_bits().checked_add_signed(step.into()).map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        }
    }

    #[test]
    fn forbidden_ranges_end_where_the_registries_say() {
        let policy = AddressPolicy::public_only();
        for (first, last) in FORBIDDEN {
            for edge in [ip(first), ip(last)] {
                assert!(policy.judge(edge).is_err(), "{edge}");
            }
            for beyond in [neighbour(ip(first), -1), neighbour(ip(last), 1)].into_iter().flatten() {
                assert_eq!(policy.judge(beyond).is_err(), listed(beyond), "{beyond}");
            }
        }
    }

    #[test]
    fn well_known_ssrf_addresses_are_rejected() {
        let policy = AddressPolicy::public_only();
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::5db8:d822",
            "64:ff9b:1::7f00:1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fe80::5efe:7f00:1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(policy.judge(ip(address)).is_err(), "{address}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        let policy = AddressPolicy::public_only();
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860::8888",
        ] {
            assert!(policy.judge(ip(public)).is_ok(), "{public}");
        }
    }

    #[test]
    fn one_forbidden_address_rejects_all() {
        let policy = AddressPolicy::public_only();
        assert!(policy.judge_all(&[ip("1.1.1.1"), ip("2606:4700::1111")]).is_ok());
        let forbidden = policy.judge_all(&[ip("1.1.1.1"), ip("10.0.0.1")]).unwrap_err();
        assert_eq!((forbidden.address(), forbidden.range()), (ip("10.0.0.1"), "private use"));
        assert!(!forbidden.to_string().contains("10.0.0.1"));
    }

    #[test]
    fn an_allowed_net_allows_only_its_own_addresses() {
        let policy = AddressPolicy::public_only().allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        for allowed in ["127.0.0.1", "127.255.0.1", "::ffff:127.0.0.1"] {
            assert!(policy.judge(ip(allowed)).is_ok(), "{allowed}");
        }
        for forbidden in ["::1", "10.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"] {
            assert!(policy.judge(ip(forbidden)).is_err(), "{forbidden}");
        }
        let mapped = AddressPolicy::public_only().allowing(vec!["::ffff:127.0.0.0/104".parse().unwrap()]);
        assert!(mapped.judge(ip("::ffff:127.0.0.1")).is_ok());
        assert!(mapped.judge(ip("127.0.0.1")).is_err());
    }

    #[test]
    fn a_literal_address_is_judged_and_a_name_passes() {
        let policy = AddressPolicy::public_only();
        for (url, allowed) in [
            ("http://0x7f.1/", false),
            ("http://2130706433/", false),
            ("http://[::ffff:1.1.1.1]/", false),
            ("http://1.1.1.1/", true),
            ("http://localhost/", true),
        ] {
            assert_eq!(policy.judge_literal(&url.parse().unwrap()).is_ok(), allowed, "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_ipv4_address_is_judged_as_the_registry_says(bits: u32) {
            let address = IpAddr::from(bits.to_be_bytes());
            prop_assert_eq!(AddressPolicy::public_only().judge(address).is_err(), listed(address));
        }

        #[test]
        fn any_ipv6_address_is_judged_as_the_registry_says(bits: u128, near in 0_usize..24, high in 0_u32..=128) {
            // Random bits after the first bits of a listed range, so that many cases are near its edges.
            let first = match ip(FORBIDDEN[near].0) {
                IpAddr::V6(v6) => v6.to_bits(),
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            };
            let mask = u128::MAX.checked_shr(high).unwrap_or(0);
            let address = IpAddr::from(Ipv6Addr::from_bits((first & !mask) | (bits & mask)));
            prop_assert_eq!(AddressPolicy::public_only().judge(address).is_err(), listed(address));
        }

        #[test]
        fn nat64_is_judged_by_the_embedded_address(bits: u32) {
            let [a, b, c, d] = bits.to_be_bytes().map(u16::from);
            let embedded = IpAddr::from(bits.to_be_bytes());
            let address = IpAddr::from([0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d]);
            let policy = AddressPolicy::public_only().judging_nat64();
            prop_assert_eq!(policy.judge(address).is_err(), policy.judge(embedded).is_err());
            prop_assert!(AddressPolicy::public_only().judge(address).is_err());
        }

        #[test]
        fn allowing_a_net_changes_only_its_own_addresses(net: u32, length in 0_u8..=32, probe: u32) {
            let net = IpNet::from(Ipv4Net::new(net.into(), length).unwrap());
            let probe = IpAddr::from(probe.to_be_bytes());
            let policy = AddressPolicy::public_only().allowing(vec![net]);
            let expected = net.contains(&probe) || AddressPolicy::public_only().judge(probe).is_ok();
            prop_assert_eq!(policy.judge(probe).is_ok(), expected);
        }
    }
}
