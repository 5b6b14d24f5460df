//! Wrong keys, limited per address, so that guessing is slow.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use postrider_core::key::KeyRate;
use tokio::time::Instant;

use crate::rate::{Exceeded, Meter};

/// How many addresses are remembered. Beyond that, further ones share what one of them may do.
const MOST: usize = 10_000;

/// What each address has used of the rate of wrong keys.
#[derive(Debug)]
pub(crate) struct Guesses {
    rate: KeyRate,
    started: Instant,
    meters: Mutex<HashMap<Option<IpAddr>, Meter>>,
}

impl Guesses {
    pub(crate) fn new(rate: KeyRate) -> Self {
        Self { rate, started: Instant::now(), meters: Mutex::default() }
    }

    /// Counts a wrong key from an address. All unknown addresses are one.
    pub(crate) fn note(&self, address: Option<IpAddr>) -> Result<(), Exceeded> {
        self.note_at(address.map(network), self.now())
    }

    /// Whether an address has shown as many wrong keys as it may.
    pub(crate) fn is_used_up(&self, address: Option<IpAddr>) -> bool {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.get(&address.map(network)).is_some_and(|meter| meter.is_used_up(self.rate, self.now()))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    fn note_at(&self, address: Option<IpAddr>, now: u64) -> Result<(), Exceeded> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= MOST && !meters.contains_key(&address) {
            meters.retain(|_, meter| !meter.is_unused(now));
        }
        let is_full = meters.len() >= MOST && !meters.contains_key(&address);
        let meter = meters.entry(address.filter(|_| !is_full)).or_default();
        meter.take(self.rate, now).map(drop)
    }
}

/// A client with one IPv6 address usually has all that share its first 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses() -> Guesses {
        Guesses::new(KeyRate::new(1, 2).unwrap())
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let guesses = guesses();
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| Some(text.parse().unwrap()));
        for address in addresses.into_iter().chain([None]) {
            assert!(guesses.note(address).is_ok() && guesses.note(address).is_ok(), "{address:?}");
            assert!(guesses.note(address).is_err(), "{address:?}");
        }
        assert!(guesses.is_used_up(addresses[0]) && !guesses.is_used_up(Some("192.0.2.9".parse().unwrap())));
        assert!(guesses.note(Some("2001:db8::2".parse().unwrap())).is_err(), "the same network");
        assert!(guesses.note(Some("2001:db8:0:1::2".parse().unwrap())).is_ok());
        assert!(guesses.note(Some("::ffff:192.0.2.1".parse().unwrap())).is_err(), "the same address");
    }

    #[test]
    fn the_memory_is_bounded() {
        let guesses = guesses();
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        for number in 0..100_000 {
            let _ = guesses.note_at(address(number), 0);
        }
        assert!(guesses.meters.lock().unwrap().len() <= MOST + 1);
        assert!(guesses.note_at(address(200_000), 0).is_err(), "further addresses share one limit");
        assert!(guesses.note_at(address(200_000), 10_000_000_000).is_ok(), "old ones are forgotten");
        assert!(guesses.meters.lock().unwrap().len() <= 2);
    }
}
