//! Metrics of keys: requests by the kind of their key, and requests that were refused.

use metrics::{Counter, counter};
use postrider_telemetry::metric;

use crate::caller::Actor;

/// Counters, looked up once.
pub(crate) struct Counts {
    environment: Counter,
    operators: Counter,
    tenants: Counter,
    /// Requests of sessions in the portal.
    #[cfg(feature = "console")]
    guests: Counter,
    /// Requests without a valid key.
    pub(crate) without_key: Counter,
    /// Requests that were answered with 403.
    pub(crate) forbidden: Counter,
    /// Requests that exceeded the rate of their key.
    pub(crate) limited_keys: Counter,
    /// Wrong keys from addresses that had shown too many of them.
    pub(crate) limited_addresses: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        let requests = |kind: &'static str| counter!(metric::API_REQUESTS, metric::KEY_KIND => kind);
        let limited = |reason: &'static str| counter!(metric::API_LIMITED, metric::REASON => reason);
        Self {
            environment: requests("environment"),
            operators: requests("operator"),
            tenants: requests("tenant"),
            #[cfg(feature = "console")]
            guests: requests("portal"),
            without_key: requests("none"),
            forbidden: counter!(metric::API_FORBIDDEN),
            limited_keys: limited("key"),
            limited_addresses: limited("address"),
        }
    }
}

impl Counts {
    /// The counter of requests with this kind of key.
    pub(crate) fn of(&self, actor: &Actor) -> &Counter {
        match actor {
            Actor::Environment => &self.environment,
            Actor::Key(known) if known.key.powers.tenant.is_some() => &self.tenants,
            Actor::Key(_) => &self.operators,
            #[cfg(feature = "console")]
            Actor::Guest(_) => &self.guests,
        }
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}
