//! What this server knows of the register of tenants: which are registered, which are not active, and which are being deleted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use postrider_core::{TenantId, chain};
use postrider_store::Store;
use postrider_store::tenants::{Closed, NewTenant};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::problem::Problem;

/// How often the server looks which tenants are closed. The data of those that are being deleted stays for much longer.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many registered tenants are remembered.
const MOST: usize = 100_000;

/// How many tenants of each kind are refused. If more are being deleted, those whose deletion was requested last are not
/// refused yet. If more are inactive, the events of the others are taken, and wait.
const MOST_CLOSED: u32 = 10_000;

/// What this server knows of tenants.
#[derive(Debug)]
pub(crate) struct Registry {
    known: Arc<Known>,
    /// The task that looks. It ends when this is dropped.
    _looking: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Known(Mutex<Tenants>);

#[derive(Debug, Default)]
struct Tenants {
    registered: HashSet<TenantId>,
    closed: HashMap<TenantId, Closed>,
    /// How many closings and openings this server was asked for. What was read before the last of them does not know it.
    requested: u64,
}

impl Registry {
    /// Starts to look which tenants are closed. The caller must be within a Tokio runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let known = Arc::new(Known::default());
        let mut looking = JoinSet::new();
        looking.spawn(look(store.clone(), Arc::clone(&known)));
        Self { known, _looking: looking }
    }

    /// Refuses a write of a tenant that is being deleted.
    pub(crate) fn admit(&self, tenant: &TenantId) -> Result<(), Problem> {
        if self.known.tenants().closed.get(tenant) == Some(&Closed::BeingDeleted) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("the tenant `{tenant}` is being deleted"),
            ));
        }
        Ok(())
    }

    /// Refuses an event of a tenant that is not active.
    pub(crate) fn admit_event(&self, tenant: &TenantId) -> Result<(), Problem> {
        if self.known.tenants().closed.contains_key(tenant) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!("the tenant `{tenant}` is not active; an operator can activate it"),
            ));
        }
        Ok(())
    }

    /// Refuses a tenant's events, or all of its writes, from now on.
    pub(crate) fn close(&self, tenant: &TenantId, closed: Closed) {
        let mut tenants = self.known.tenants();
        tenants.requested += 1;
        if closed == Closed::BeingDeleted {
            tenants.registered.remove(tenant);
        }
        tenants.closed.insert(tenant.clone(), closed);
    }

    /// Takes the events of a tenant again, which is active from now on.
    pub(crate) fn open(&self, tenant: &TenantId) {
        let mut tenants = self.known.tenants();
        tenants.requested += 1;
        if tenants.closed.get(tenant) == Some(&Closed::Inactive) {
            tenants.closed.remove(tenant);
        }
    }

    /// Registers a tenant that has written something, unless it is known to be registered.
    pub(crate) async fn has_written(&self, store: &Store, tenant: &TenantId) {
        if self.known.tenants().registered.contains(tenant) {
            return;
        }
        match store.register_tenant(&NewTenant::named(tenant.clone())).await {
            Ok(_) => self.known.tenants().remember(tenant.clone()),
            // The next write registers it.
            Err(error) => tracing::debug!(%tenant, error = %chain(&error), "tenant not registered"),
        }
    }
}

async fn look(store: Store, known: Arc<Known>) {
    loop {
        let requested = known.tenants().requested;
        match store.closed_tenants(MOST_CLOSED).await {
            Ok(closed) => known.tenants().replace(closed, requested),
            Err(error) => {
                // Without news for long, a tenant may have been deleted: its next write registers it again.
                known.tenants().registered.clear();
                tracing::debug!(error = %chain(&error), "closed tenants not read");
            }
        }
        sleep(INTERVAL).await;
    }
}

impl Known {
    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    fn remember(&mut self, tenant: TenantId) {
        if self.registered.len() >= MOST {
            self.registered.clear();
        }
        if self.closed.get(&tenant) != Some(&Closed::BeingDeleted) {
            self.registered.insert(tenant);
        }
    }

    /// Takes note of the closed tenants, unless one was closed or opened since they were read.
    fn replace(&mut self, closed: Vec<(TenantId, Closed)>, requested: u64) {
        if requested != self.requested {
            return;
        }
        for (tenant, _) in closed.iter().filter(|(_, closed)| *closed == Closed::BeingDeleted) {
            self.registered.remove(tenant);
        }
        self.closed = closed.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_deletion_was_requested_does_not_undo_it() {
        let (known, acme) = (Arc::new(Known::default()), TenantId::operator());
        let registry = Registry { known: Arc::clone(&known), _looking: JoinSet::new() };
        let requested = known.tenants().requested;
        registry.close(&acme, Closed::BeingDeleted);
        known.tenants().replace(Vec::new(), requested);
        assert!(registry.admit(&acme).is_err());
        let requested = known.tenants().requested;
        known.tenants().replace(Vec::new(), requested);
        assert!(registry.admit(&acme).is_ok(), "it is deleted by now");
    }
}
