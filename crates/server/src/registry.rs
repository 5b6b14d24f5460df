//! What this server knows of the register of tenants: which are registered, and which are being deleted.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use postrider_core::{TenantId, chain};
use postrider_store::Store;
use postrider_store::tenants::NewTenant;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::problem::Problem;

/// How often the server looks which tenants are being deleted. Their data stays for much longer than this.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many tenants are remembered, of each kind. Those that are being deleted are refused oldest first, so with more than
/// this the youngest wait for their turn.
const MOST: usize = 100_000;
const MOST_DELETED: u32 = 10_000;

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
    /// They are being deleted.
    refused: HashSet<TenantId>,
}

impl Registry {
    /// Starts to look which tenants are being deleted. The caller must be within a Tokio runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let known = Arc::new(Known::default());
        let mut looking = JoinSet::new();
        looking.spawn(look(store.clone(), Arc::clone(&known)));
        Self { known, _looking: looking }
    }

    /// Refuses a write of a tenant that is being deleted.
    pub(crate) fn admit(&self, tenant: &TenantId) -> Result<(), Problem> {
        if self.known.tenants().refused.contains(tenant) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("the tenant `{tenant}` is being deleted"),
            ));
        }
        Ok(())
    }

    /// Refuses a tenant's writes from now on.
    pub(crate) fn refuse(&self, tenant: &TenantId) {
        let mut tenants = self.known.tenants();
        tenants.registered.remove(tenant);
        tenants.refused.insert(tenant.clone());
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
        match store.tenants_being_deleted(MOST_DELETED).await {
            Ok(deleted) => known.tenants().replace(deleted),
            Err(error) => {
                // Without news for long, a tenant may have been deleted: its next write registers it again.
                known.tenants().registered.clear();
                tracing::debug!(error = %chain(&error), "tenants that are being deleted not read");
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
        if !self.refused.contains(&tenant) {
            self.registered.insert(tenant);
        }
    }

    fn replace(&mut self, deleted: Vec<TenantId>) {
        for tenant in &deleted {
            self.registered.remove(tenant);
        }
        self.refused = deleted.into_iter().collect();
    }
}
