//! Retrying and cancelling a delivery.

use std::collections::HashMap;

use postrider_core::audit::AuditAction;
use postrider_core::{DeliveryId, DeliveryStatus, TenantId};
use postrider_database::Writes;
use postrider_database::sql::query_one;
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult as _, IdenStatic as _, Iterable as _, QueryFilter, QuerySelect,
};
use serde_json::json;

use super::read::{Delivery, read};
use super::restart::{AttemptBudget, restart, rollup_key};
use crate::entity::deliveries;
use crate::erasure::PayloadGone;
use crate::queue_ids::{lane_of, queued};
use crate::rollups::deliveries::{Counts, add};
use crate::row::{CANCELLED, PENDING};
use crate::subscribers::is_active;
use crate::tail::Happened;
use crate::{Store, StoreError};

/// The result of a request to retry or cancel a delivery.
#[derive(Clone, Debug)]
pub enum Changed {
    /// The delivery was changed. This is its new state.
    Done(Box<Delivery>),
    /// The operation is not allowed in the delivery's current status, which this is.
    Not(DeliveryStatus),
    /// It cannot be delivered again, since its event's payload is not there any more.
    PayloadGone(PayloadGone),
    /// It cannot be delivered again, since its subscriber is not active or was deleted.
    Inactive,
    /// The tenant has no such delivery.
    Missing,
}

impl Store {
    /// Delivers an ended delivery again: a new round with the full schedule, under the same event id. Of two concurrent
    /// calls, only one starts a round.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn retry(&self, tenant: &TenantId, id: DeliveryId) -> Result<Changed, StoreError> {
        let transaction = self.database.begin().await?;
        let query = deliveries::Entity::find_by_id(id.uuid())
            .filter(deliveries::Column::Tenant.eq(tenant.as_str()))
            .lock_exclusive();
        let Some(row) = query.one(&transaction).await? else { return Ok(Changed::Missing) };
        let before = read(&row)?;
        if before.status == DeliveryStatus::Pending {
            return Ok(Changed::Not(before.status));
        }
        let event = before.event_id;
        if let Some(why) =
            self.gone_payloads(&transaction, tenant, std::iter::once(event)).await?.remove(&event)
        {
            transaction.rollback().await?;
            return Ok(Changed::PayloadGone(why));
        }
        if !is_active(&transaction, tenant, before.subscriber).await? {
            transaction.rollback().await?;
            return Ok(Changed::Inactive);
        }
        let jobs =
            restart(self, &transaction, tenant, std::slice::from_ref(&before), AttemptBudget::FromZero)
                .await?;
        let (was, now) = (json!({"status": before.status}), json!({"status": DeliveryStatus::Pending}));
        self.audit(&transaction, tenant, AuditAction::DeliveryRetried, id, was, now).await?;
        transaction.commit().await?;
        self.queue.enqueued(&jobs);
        Ok(self.delivery(tenant, id).await?.map_or(Changed::Missing, |now| Changed::Done(Box::new(now))))
    }

    /// Cancels a pending delivery. A request that is in flight still finishes, and its attempt is recorded.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn cancel(&self, tenant: &TenantId, id: DeliveryId) -> Result<Changed, StoreError> {
        let now = self.database.dialect().now();
        let transaction = self.database.begin().await?;
        // Named: after a migration that adds a column, PostgreSQL rejects a prepared statement that returns all.
        let columns: Vec<_> = deliveries::Column::iter().map(|column| column.as_str()).collect();
        let sql = format!(
            "UPDATE deliveries SET status = {CANCELLED}, next_attempt_at = NULL, ended_at = {now} \
             WHERE id = $1 AND tenant = $2 AND status = {PENDING} RETURNING {}",
            columns.join(", ")
        );
        let values = [id.uuid().into(), tenant.as_str().into()];
        let Some(row) = query_one(&transaction, sql, values).await? else {
            transaction.rollback().await?;
            let found = self.delivery(tenant, id).await?;
            return Ok(found.map_or(Changed::Missing, |delivery| Changed::Not(delivery.status)));
        };
        let delivery = read(&deliveries::Model::from_query_result(&row, "")?)?;
        let counts = Counts { cancelled: 1, spent: i64::from(delivery.attempts), ..Counts::default() };
        let mut writes = Writes::new();
        add(HashMap::from([(rollup_key(tenant, &delivery), counts)]), &mut writes);
        let happened = Happened {
            tenant,
            delivery: id,
            subscriber: delivery.subscriber,
            event_type: &delivery.event_type,
            status: DeliveryStatus::Cancelled,
            attempt: None,
        };
        self.note_with(&[happened], &mut writes);
        writes.execute(&transaction).await?;
        // So that it takes no turn of its lane. One that is running finishes, and one far behind is stale.
        if let Some(job) = delivery.job {
            self.queue.cancel_in(&transaction, lane_of(delivery.subscriber), &[queued(job)]).await?;
        }
        let now = json!({"status": delivery.status});
        let was = json!({"status": DeliveryStatus::Pending});
        self.audit(&transaction, tenant, AuditAction::DeliveryCancelled, id, was, now).await?;
        transaction.commit().await?;
        if let Some(job) = delivery.job {
            self.queue.removed(lane_of(delivery.subscriber), &[queued(job)]).await;
        }
        Ok(Changed::Done(Box::new(delivery)))
    }
}
