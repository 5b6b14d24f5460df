//! How far a key reaches.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{EventPattern, EventType, SubscriberId};

/// How far a key reaches. An empty list limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyLimits {
    /// The event types that it may dispatch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventPattern>,
    /// The subscribers that it may see and change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribers: Vec<SubscriberId>,
    /// The networks from which it may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// How many requests it may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<KeyRate>,
}

impl KeyLimits {
    /// The most entries of each list.
    pub const MOST: usize = 100;

    /// Returns whether the key may dispatch events of this type.
    pub fn allow_event(&self, event_type: &EventType) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|pattern| pattern.matches(event_type))
    }

    /// Returns whether the key may see and change this subscriber.
    pub fn allow_subscriber(&self, subscriber: SubscriberId) -> bool {
        self.subscribers.is_empty() || self.subscribers.contains(&subscriber)
    }

    /// Returns whether the key may be used from this address; `None` is an address that is not known.
    pub fn allow_address(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return self.networks.is_empty() };
        // An IPv4 client of a socket for both families.
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&address))
    }
}

/// How many requests a key may make: so many per second on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredRate", into = "StoredRate")]
pub struct KeyRate {
    per_second: u32,
    burst: u32,
}

/// The rate is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {}", KeyRate::MOST)]
pub struct KeyRateError;

impl KeyRate {
    /// The highest rate, and the largest burst.
    pub const MOST: u32 = 1_000_000;

    /// A rate of `per_second` requests per second, of which `burst` may come at once.
    ///
    /// # Errors
    /// Fails if one of them is not 1 to [`KeyRate::MOST`].
    pub const fn new(per_second: u32, burst: u32) -> Result<Self, KeyRateError> {
        if per_second == 0 || per_second > Self::MOST || burst == 0 || burst > Self::MOST {
            return Err(KeyRateError);
        }
        Ok(Self { per_second, burst })
    }

    /// Returns how many requests per second are allowed on average.
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// Returns how many requests may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRate {
    per_second: u32,
    burst: u32,
}

impl TryFrom<StoredRate> for KeyRate {
    type Error = KeyRateError;

    fn try_from(stored: StoredRate) -> Result<Self, KeyRateError> {
        Self::new(stored.per_second, stored.burst)
    }
}

impl From<KeyRate> for StoredRate {
    fn from(rate: KeyRate) -> Self {
        Self { per_second: rate.per_second, burst: rate.burst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_within_one_of_the_networks() {
        let limits = KeyLimits {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ..KeyLimits::default()
        };
        for allowed in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
            assert!(limits.allow_address(Some(allowed.parse().unwrap())), "{allowed}");
        }
        for refused in ["11.0.0.1", "::1", "2001:db9::1"] {
            assert!(!limits.allow_address(Some(refused.parse().unwrap())), "{refused}");
        }
        assert!(!limits.allow_address(None) && KeyLimits::default().allow_address(None));
    }

    #[test]
    fn a_rate_has_bounds_in_json_too() {
        assert!(KeyRate::new(0, 1).is_err() && KeyRate::new(1, KeyRate::MOST + 1).is_err());
        assert!(serde_json::from_str::<KeyRate>(r#"{"per_second":0,"burst":1}"#).is_err());
        let limits = KeyLimits { rate: KeyRate::new(5, 9).ok(), ..KeyLimits::default() };
        let json = serde_json::to_string(&limits).unwrap();
        assert_eq!(json, r#"{"rate":{"per_second":5,"burst":9}}"#);
        assert_eq!(serde_json::from_str::<KeyLimits>(&json).unwrap(), limits);
    }
}
