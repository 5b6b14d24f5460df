//! The egress proxies of tenants, as they were a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use postrider_core::TenantId;
use postrider_store::tenants::EgressProxy;
use postrider_store::{Store, StoreError};
use tokio::time::Instant;

/// How often a proxy that cannot be reached is logged.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// The egress proxies of all tenants that have one. Most deployments have none, so an attempt only looks here.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    known: RwLock<Known>,
    /// When it was last logged that a tenant's proxy cannot be reached.
    logged: Mutex<HashMap<TenantId, Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    /// How often any of them had been changed when they were read; `None` before.
    changes: Option<i64>,
    of: HashMap<TenantId, EgressProxy>,
}

impl Proxies {
    /// Returns the proxy of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> Option<EgressProxy> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.of.get(tenant).cloned()
    }

    /// Reads them again if one was changed.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        // Before the proxies: a change in between is noticed the next time.
        let changes = Some(store.egress_proxy_changes().await?);
        if self.known.read().unwrap_or_else(PoisonError::into_inner).changes == changes {
            return Ok(());
        }
        let of = store.egress_proxies().await?;
        for (tenant, _) in of.iter().filter(|(_, proxy)| **proxy == EgressProxy::Unreadable) {
            tracing::error!(
                tenant = %tenant,
                "egress proxy could not be decrypted, and the tenant's deliveries wait; check that the secret key is the one \
                 it was stored under"
            );
        }
        self.logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|tenant, _| of.contains_key(tenant));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { changes, of };
        Ok(())
    }

    /// Logs that the proxy of a tenant cannot be reached, once a minute.
    pub(crate) fn unreachable(&self, tenant: &TenantId) {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(tenant).is_some_and(|at| now < *at + LOG_EVERY) {
            return;
        }
        logged.insert(tenant.clone(), now);
        drop(logged);
        tracing::warn!(tenant = %tenant, "egress proxy of the tenant cannot be reached; its deliveries wait");
    }
}
