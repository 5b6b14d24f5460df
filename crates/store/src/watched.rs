//! Which tenants somebody follows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use postrider_core::TenantId;

/// The tenants that somebody follows, as this process knows them.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    any: AtomicBool,
    tenants: RwLock<HashSet<TenantId>>,
}

impl Watched {
    /// Whether any tenant is followed. Recording asks this for each batch.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, tenant: &TenantId) -> bool {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    pub(crate) fn set(&self, tenants: HashSet<TenantId>) {
        let any = !tenants.is_empty();
        *self.tenants.write().unwrap_or_else(PoisonError::into_inner) = tenants;
        self.any.store(any, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, tenants: impl Iterator<Item = TenantId>) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).extend(tenants);
        self.any.store(true, Ordering::Relaxed);
    }
}
