//! What a key can give to another one.

use super::{KeyLimits, Scope, Scopes};
use crate::{TenantId, Timestamp};

/// All that a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Powers {
    /// The tenant for which it acts; `None` for an operator's key, which acts for every one.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: Scopes,
    /// How far.
    pub limits: KeyLimits,
    /// Until when; `None` for good.
    pub expires_at: Option<Timestamp>,
}

/// In what a key would be stronger than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It would act for another tenant.
    Tenant,
    /// It would have this scope.
    Scope(Scope),
    /// It could dispatch other event types.
    EventTypes,
    /// It would reach other subscribers.
    Subscribers,
    /// It could be used from other networks.
    Networks,
    /// It could make more requests.
    Rate,
    /// It would be valid for longer.
    Expiry,
}

impl Powers {
    /// Everything, for every tenant, for good.
    pub fn all() -> Self {
        Self { tenant: None, scopes: Scopes::ALL, limits: KeyLimits::default(), expires_at: None }
    }

    /// Returns in what these powers exceed `others`.
    ///
    /// ```
    /// use postrider_core::key::{Excess, Powers, Preset, Scope};
    ///
    /// let support = Powers { scopes: Preset::Support.scopes(), ..Powers::all() };
    /// let publisher = Powers { scopes: Preset::Publisher.scopes(), ..Powers::all() };
    /// assert!(support.beyond(&Powers::all()).is_empty());
    /// assert_eq!(publisher.beyond(&support), [Excess::Scope(Scope::EventsWrite)]);
    /// ```
    pub fn beyond(&self, others: &Self) -> Vec<Excess> {
        let missing = self.scopes.missing_from(others.scopes).map(Excess::Scope);
        let tenant = others.tenant.is_none() || self.tenant == others.tenant;
        let (own, given) = (&self.limits, &others.limits);
        let event_types = is_within(&own.event_types, &given.event_types, |one, other| other.covers(one));
        let subscribers = is_within(&own.subscribers, &given.subscribers, PartialEq::eq);
        let networks = is_within(&own.networks, &given.networks, |one, other| other.contains(one));
        let rate = given.rate.is_none_or(|given| {
            own.rate.is_some_and(|own| own.per_second() <= given.per_second() && own.burst() <= given.burst())
        });
        let expiry = others.expires_at.is_none_or(|given| self.expires_at.is_some_and(|own| own <= given));
        let checks = [
            (tenant, Excess::Tenant),
            (event_types, Excess::EventTypes),
            (subscribers, Excess::Subscribers),
            (networks, Excess::Networks),
            (rate, Excess::Rate),
            (expiry, Excess::Expiry),
        ];
        let exceeded = checks.into_iter().filter(|(holds, _)| !holds).map(|(_, excess)| excess);
        missing.into_iter().chain(exceeded).collect()
    }
}

/// Returns whether a list reaches no further than another. An empty list reaches everywhere.
fn is_within<T>(list: &[T], other: &[T], covered: impl Fn(&T, &T) -> bool) -> bool {
    other.is_empty()
        || (!list.is_empty() && list.iter().all(|one| other.iter().any(|other| covered(one, other))))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyRate;
    use crate::{EventPattern, EventType, SubscriberId};

    fn limits() -> impl Strategy<Value = KeyLimits> {
        let patterns = prop::collection::vec("([ab]\\.){0,2}[ab*]", 0..3);
        let subscribers = prop::collection::vec(0_u128..3, 0..3);
        let networks = prop::collection::vec((0_u8..4, 30_u8..=32), 0..3);
        let rate = prop::option::of((1_u32..4, 1_u32..4));
        (patterns, subscribers, networks, rate).prop_map(|(patterns, subscribers, networks, rate)| {
            KeyLimits {
                event_types: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
                subscribers: subscribers.into_iter().map(subscriber).collect(),
                networks: networks
                    .into_iter()
                    .map(|(last, bits)| {
                        format!("10.0.0.{last}/{bits}").parse::<ipnet::IpNet>().unwrap().trunc()
                    })
                    .collect(),
                rate: rate.map(|(per_second, burst)| KeyRate::new(per_second, burst).unwrap()),
            }
        })
    }

    fn subscriber(number: u128) -> SubscriberId {
        SubscriberId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn powers() -> impl Strategy<Value = Powers> {
        let tenant = prop::option::of(prop::sample::select(vec!["acme", "other"]));
        let expires = prop::option::of(0_i64..3);
        (tenant, 0_u8..8, limits(), expires).prop_map(|(tenant, bits, limits, expires)| Powers {
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            scopes: Scope::ALL[..3].iter().copied().filter(|scope| bits & (1 << scope.code()) != 0).collect(),
            limits,
            expires_at: expires.map(Timestamp::from_millis),
        })
    }

    proptest! {
        /// Whatever the weaker key may do, the stronger one may do as well.
        #[test]
        fn powers_within_others_allow_nothing_more(weak in powers(), strong in powers()) {
            prop_assert!(weak.beyond(&weak).is_empty() && weak.beyond(&Powers::all()).is_empty());
            if !weak.beyond(&strong).is_empty() {
                return Ok(());
            }
            prop_assert!(strong.tenant.is_none() || strong.tenant == weak.tenant);
            for scope in weak.scopes.iter() {
                prop_assert!(strong.scopes.contains(scope));
            }
            let (own, given) = (&weak.limits, &strong.limits);
            for event_type in ["a", "b", "a.a", "a.b", "b.a", "a.a.a", "a.a.b", "b.a.b", "c"] {
                let event_type: EventType = event_type.parse().unwrap();
                prop_assert!(!own.allow_event(&event_type) || given.allow_event(&event_type), "{}", event_type);
            }
            for number in 0..4 {
                prop_assert!(!own.allow_subscriber(subscriber(number)) || given.allow_subscriber(subscriber(number)));
            }
            for last in 0..8 {
                let address = Some(IpAddr::from([10, 0, 0, last]));
                prop_assert!(!own.allow_address(address) || given.allow_address(address), "{}", last);
            }
        }

        #[test]
        fn a_pattern_covers_those_that_match_less(one in "([ab]\\.){0,2}[ab*]", other in "([ab]\\.){0,2}[ab*]") {
            let (one, other): (EventPattern, EventPattern) = (one.parse().unwrap(), other.parse().unwrap());
            // An event type that only this pattern, or one that covers it, matches.
            let witness: EventType = one.as_str().replace('*', "z").parse().unwrap();
            prop_assert_eq!(other.covers(&one), other.matches(&witness));
        }
    }

    #[test]
    fn every_excess_is_named() {
        let strong = Powers {
            tenant: Some("acme".parse().unwrap()),
            scopes: Scopes::of(&[Scope::EventsRead]),
            limits: KeyLimits {
                event_types: vec!["order.*".parse().unwrap()],
                subscribers: vec![subscriber(1)],
                networks: vec!["10.0.0.0/8".parse().unwrap()],
                rate: KeyRate::new(5, 5).ok(),
            },
            expires_at: Some(Timestamp::from_millis(1)),
        };
        let expected = [
            Excess::Scope(Scope::EventsWrite),
            Excess::Tenant,
            Excess::EventTypes,
            Excess::Subscribers,
            Excess::Networks,
            Excess::Rate,
            Excess::Expiry,
        ];
        assert_eq!(Powers::all().beyond(&strong), expected);
        assert!(strong.beyond(&Powers::all()).is_empty());
    }
}
