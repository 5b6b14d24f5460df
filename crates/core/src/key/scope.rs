//! What a key may do.

use std::fmt;

use crate::word::words;

words! {
    /// One thing that a key may do.
    Scope, "a scope" {
        /// Dispatch events, send test events, erase payloads.
        EventsWrite = 0, "events:write";
        /// Read events, without their data.
        EventsRead = 1, "events:read";
        /// See the data of events, and the headers and bodies of responses.
        PayloadsRead = 2, "payloads:read";
        /// Read subscribers, without their secrets.
        SubscribersRead = 3, "subscribers:read";
        /// Create, change, activate, deactivate and delete subscribers.
        SubscribersWrite = 4, "subscribers:write";
        /// Read the secrets of subscribers.
        SecretsRead = 5, "secrets:read";
        /// Replace the secrets of subscribers.
        SecretsRotate = 6, "secrets:rotate";
        /// Read deliveries and attempts.
        DeliveriesRead = 7, "deliveries:read";
        /// Retry, cancel, requeue and recover deliveries, and delete dead letters.
        DeliveriesRetry = 8, "deliveries:retry";
        /// Deliver again what matches a filter.
        ReplaysWrite = 9, "replays:write";
        /// Read statistics.
        StatsRead = 10, "stats:read";
        /// Follow events and deliveries as they happen.
        TailRead = 11, "tail:read";
        /// Read event types.
        TypesRead = 12, "types:read";
        /// Create, change and delete event types.
        TypesWrite = 13, "types:write";
        /// Use the built-in receivers.
        SandboxUse = 14, "sandbox:use";
        /// Make links to the portal.
        PortalMint = 15, "portal:mint";
        /// Create, change, rotate and revoke keys.
        KeysManage = 16, "keys:manage";
        /// Read who changed what.
        AuditRead = 17, "audit:read";
        /// Register, change and delete tenants. For operators only.
        TenantsManage = 18, "tenants:manage";
        /// Read and move the queue of the deployment. For operators only.
        QueueManage = 19, "queue:manage";
        /// Add and remove plugins. For operators only.
        PluginsManage = 20, "plugins:manage";
    }
}

impl Scope {
    /// Returns whether only the key of an operator may have the scope.
    pub const fn is_for_operators(self) -> bool {
        matches!(self, Self::TenantsManage | Self::QueueManage | Self::PluginsManage)
    }
}

/// A set of scopes.
///
/// ```
/// use postrider_core::key::{Scope, Scopes};
///
/// let scopes = Scopes::of(&[Scope::EventsWrite, Scope::EventsRead]);
/// assert!(scopes.contains(Scope::EventsRead));
/// assert_eq!(scopes.missing_from(Scopes::of(&[Scope::EventsRead])), Some(Scope::EventsWrite));
/// assert_eq!(scopes.to_string(), "events:write events:read");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u32);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self::of(Scope::ALL);

    /// The set of these scopes.
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut set, mut place) = (Self::NONE, 0);
        while place < scopes.len() {
            set = set.with(scopes[place]);
            place += 1;
        }
        set
    }

    /// The set with one more scope.
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope.code())
    }

    /// The scopes of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the set has the scope.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope.code()) != 0
    }

    /// Returns whether the set has no scope.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// Returns the first scope of this set that `other` lacks; `None` if it lacks none.
    pub fn missing_from(self, other: Self) -> Option<Scope> {
        Self(self.0 & !other.0).iter().next()
    }

    /// Reads scopes as `Display` writes them. Words that are no scope, which a later version may have written, are left
    /// out, so that the key may do less.
    pub fn read(text: &str) -> Self {
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.iter().try_for_each(|scope| {
            write!(f, "{separator}{scope}")?;
            separator = " ";
            Ok(())
        })
    }
}

words! {
    /// A name for the scopes that a common kind of program or person needs.
    Preset, "a preset" {
        /// A program that dispatches events.
        Publisher = 0, "publisher";
        /// Someone who watches, without payloads.
        Observer = 1, "observer";
        /// Someone who helps: watches and retries, without payloads.
        Support = 2, "support";
        /// A program that connects an application: dispatches, manages subscribers and their secrets, reads everything.
        Integrator = 3, "integrator";
        /// Everything that is not for operators only.
        TenantAdmin = 4, "tenant_admin";
        /// Everything. For operators only.
        Operator = 5, "operator";
    }
}

impl Preset {
    /// Returns the scopes for which the name stands.
    ///
    /// ```
    /// use postrider_core::key::{Preset, Scope};
    ///
    /// assert!(Preset::Support.scopes().contains(Scope::DeliveriesRetry));
    /// assert!(!Preset::Support.scopes().contains(Scope::PayloadsRead));
    /// ```
    pub fn scopes(self) -> Scopes {
        const OBSERVER: Scopes = Scopes::of(&[
            Scope::EventsRead,
            Scope::SubscribersRead,
            Scope::DeliveriesRead,
            Scope::StatsRead,
            Scope::TailRead,
            Scope::TypesRead,
        ]);
        match self {
            Self::Publisher => Scopes::of(&[Scope::EventsWrite, Scope::TypesRead]),
            Self::Observer => OBSERVER,
            Self::Support => OBSERVER.with(Scope::DeliveriesRetry),
            Self::Integrator => OBSERVER.and(Scopes::of(&[
                Scope::EventsWrite,
                Scope::PayloadsRead,
                Scope::SubscribersWrite,
                Scope::SecretsRead,
                Scope::SecretsRotate,
                Scope::DeliveriesRetry,
                Scope::ReplaysWrite,
                Scope::TypesWrite,
                Scope::SandboxUse,
            ])),
            Self::TenantAdmin => {
                Scope::ALL.iter().copied().filter(|scope| !scope.is_for_operators()).collect()
            }
            Self::Operator => Scopes::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_scope_has_a_place_of_its_own() {
        assert!(Scope::ALL.iter().all(|scope| (0..32).contains(&scope.code())));
        assert_eq!(Scopes::ALL.iter().count(), Scope::ALL.len());
        assert!(Scopes::NONE.is_empty() && !Scopes::ALL.is_empty());
    }

    #[test]
    fn only_the_preset_of_operators_has_scopes_of_operators() {
        for preset in Preset::ALL {
            let has = preset.scopes().iter().any(Scope::is_for_operators);
            assert_eq!(has, *preset == Preset::Operator, "{preset}");
        }
    }

    #[test]
    fn a_preset_is_not_mistaken_for_a_scope() {
        assert!(Preset::ALL.iter().all(|preset| preset.as_str().parse::<Scope>().is_err()));
    }

    proptest! {
        #[test]
        fn scopes_read_back_as_they_were_written(bits: u32) {
            let all = Scope::ALL.iter().copied();
            let scopes: Scopes = all.filter(|scope| bits & (1 << scope.code()) != 0).collect();
            prop_assert_eq!(Scopes::read(&scopes.to_string()), scopes);
            prop_assert_eq!(Scopes::read(&format!("{scopes} later:scope")), scopes);
            prop_assert_eq!(scopes.missing_from(scopes), None);
        }
    }
}
