//! Cancelling what is pending.

use postrider_core::replay::ReplayFailure;
use postrider_core::{DeliveryStatus, TenantId};
use postrider_database::Transaction;

use super::restarting::lock_deliveries;
use super::run::{Processed, Row};
use crate::{Store, StoreError};

impl Store {
    /// Cancels each of these members that is still pending.
    pub(super) async fn cancel_members(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        rows: &[Row],
    ) -> Result<Processed, StoreError> {
        let found = lock_deliveries(transaction, tenant, rows).await?;
        let mut processed = Processed::default();
        let mut pending = Vec::new();
        for row in rows {
            match row.delivery.and_then(|id| found.get(&id)) {
                None => processed.fail(ReplayFailure::Removed),
                Some(delivery) if delivery.status != DeliveryStatus::Pending => {
                    processed.fail(ReplayFailure::Changed);
                }
                Some(delivery) => pending.push(delivery.clone()),
            }
        }
        processed.cancelled = self.cancel_pending(transaction, tenant, &pending).await?;
        processed.done = processed.cancelled.deliveries.values().sum();
        // Under its lock, a pending delivery names its job; one that does not is passed over.
        for _ in processed.done..pending.len() as u64 {
            processed.fail(ReplayFailure::Changed);
        }
        Ok(processed)
    }
}
