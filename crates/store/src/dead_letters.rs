//! Dead letters: listing, requeueing and deleting them.

mod walk;

use std::time::{Duration, Instant};

use postrider_core::audit::AuditAction;
use postrider_core::{
    DeadReason, DeliveryId, DeliveryStatus, EventType, SubscriberId, TenantId, Timestamp, id,
};
use postrider_database::sql::{column, execute, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::sea_query::{self, Expr, LockBehavior, LockType};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde_json::{Value, json};

use self::walk::Walk;

pub use crate::deliveries::restart::AttemptBudget;
use crate::deliveries::restart::restart;
use crate::deliveries::{Delivery, read};
use crate::entity::deliveries;
use crate::page::{Examined, Page, PageRequest};
use crate::{Store, StoreError};

/// Selects dead letters. A dead letter must match every field that is not `None`.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// The deliveries' ids.
    pub ids: Option<Vec<DeliveryId>>,
    /// The subscriber.
    pub subscriber: Option<SubscriberId>,
    /// The event's type.
    pub event_type: Option<EventType>,
    /// Why they are dead.
    pub reason: Option<DeadReason>,
    /// Died at or after this moment.
    pub since: Option<Timestamp>,
    /// Died before this moment.
    pub until: Option<Timestamp>,
}

/// The result of requeueing dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeued {
    /// The number of deliveries that are pending again.
    pub deliveries: u64,
    /// The number of those that match and stay dead because their event's payload is not there any more.
    pub without_payload: u64,
    /// Whether more dead letters match. Another call requeues them.
    pub more: bool,
}

/// The result of deleting a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The dead letter was deleted.
    Done,
    /// The delivery is not dead; this is its status.
    Not(DeliveryStatus),
    /// The tenant has no such delivery.
    Missing,
}

/// The most dead letters that one transaction requeues.
const REQUEUED_AT_ONCE: u64 = 500;

/// How long one call examines dead letters.
const REQUEUED_FOR: Duration = Duration::from_secs(8);

/// The most attempts that one statement deletes.
const ATTEMPTS_AT_ONCE: i64 = 1_000;

/// Whether a delivery's subscriber is active. Looked up for each delivery: a tenant may have many subscribers.
const IS_ACTIVE: &str = "(SELECT 1 FROM subscribers WHERE subscribers.id = deliveries.subscriber_id \
    AND subscribers.active LIMIT 1) IS NOT NULL";

impl Store {
    /// Returns a page of the tenant's dead letters, newest first. It examines a bounded number of them, so it may end before
    /// it is full, and be empty, although another page follows.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        page: PageRequest<id::Delivery>,
    ) -> Result<Page<Delivery, id::Delivery>, StoreError> {
        use deliveries::Column::Id;

        let before = |query: Select<deliveries::Entity>| match page.before {
            Some(before) => query.filter(Id.lt(before.uuid())),
            None => query,
        };
        let reads = self.database.reads();
        let all = before(DeadFilter::default().query(tenant));
        let examined = Examined::of(all, Id, filter.is_empty(), &reads).await?;
        let query = examined.within(before(filter.query(tenant)), Id);
        let rows = query.order_by_desc(Id).limit(page.rows()).all(&reads).await?;
        let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(examined.continued(Page::cut(items, page.limit, |delivery| delivery.id)))
    }

    /// Puts up to `most` dead letters back in the queue, oldest first, in batches that commit one by one, for some seconds at
    /// most.
    ///
    /// Each is requeued once, also if two calls run concurrently or it dies again before the call returns. Dead letters
    /// of inactive and deleted subscribers stay dead, and those whose event's payload is gone.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Batches before the failure stay requeued.
    pub async fn requeue(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        budget: AttemptBudget,
        most: u64,
    ) -> Result<Requeued, StoreError> {
        let mut requeued = Requeued::default();
        let called_at = self.database_time().await?;
        let until = Instant::now() + REQUEUED_FOR;
        let mut walk = Walk::of(filter);
        loop {
            let limit = REQUEUED_AT_ONCE.min(most - requeued.deliveries);
            let transaction = self.database.begin().await?;
            allow_sorting(&transaction, false).await?;
            let end = walk.end(tenant, &transaction).await?;
            let query = walk
                .until(end, walk.query(filter, tenant))
                .filter(Expr::cust(IS_ACTIVE))
                // Leaves out what this call has requeued and what has died again since.
                .filter(deliveries::Column::DiedAt.lte(called_at.millis()))
                // One more, which shows whether there are more.
                .limit(limit + 1)
                .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
            let mut rows = query.all(&transaction).await?;
            allow_sorting(&transaction, true).await?;
            let is_full = rows.len() as u64 > limit;
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let mut dead = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let events = dead.iter().map(|delivery| delivery.event_id);
            let gone = self.gone_payloads(&transaction, tenant, events).await?;
            dead.retain(|delivery| !gone.contains_key(&delivery.event_id));
            requeued.without_payload += (rows.len() - dead.len()) as u64;
            let jobs = restart(self, &transaction, tenant, &dead, budget).await?;
            if !dead.is_empty() {
                let (target, after) = (filter.described(), json!({"requeued": dead.len()}));
                let action = AuditAction::DeadLettersRequeued;
                self.audit(&transaction, tenant, action, target, Value::Null, after).await?;
            }
            transaction.commit().await?;
            if !jobs.is_empty() {
                self.queue.enqueued(&jobs);
            }
            requeued.deliveries += dead.len() as u64;
            let may_end = requeued.deliveries >= most || Instant::now() >= until;
            match (is_full, end) {
                (true, _) if may_end => return Ok(Requeued { more: true, ..requeued }),
                (true, _) => walk.go_on_after(rows.last()),
                (false, None) => return Ok(requeued),
                (false, Some(_)) if Instant::now() >= until => {
                    return Ok(Requeued { more: true, ..requeued });
                }
                (false, Some(end)) => walk.go_on(end),
            }
        }
    }

    /// Deletes a dead letter: the delivery and its attempts. Statistics keep counting it.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn delete_dead_letter(&self, tenant: &TenantId, id: DeliveryId) -> Result<Deleted, StoreError> {
        let transaction = self.database.begin().await?;
        let deleted = deliveries::Entity::delete_many()
            .filter(deliveries::Column::Id.eq(id.uuid()))
            .filter(deliveries::Column::Tenant.eq(tenant.as_str()))
            .filter(deliveries::Column::Status.eq(DeliveryStatus::Dead.code()))
            .exec(&transaction)
            .await?;
        if deleted.rows_affected == 0 {
            transaction.rollback().await?;
            let found = self.delivery(tenant, id).await?;
            return Ok(found.map_or(Deleted::Missing, |delivery| Deleted::Not(delivery.status)));
        }
        let sql = "DELETE FROM attempts WHERE delivery_id = $1 AND tenant = $2 AND id IN ( \
            SELECT id FROM attempts WHERE delivery_id = $1 AND tenant = $2 ORDER BY id LIMIT $3)";
        let values = || [id.uuid().into(), tenant.as_str().into(), ATTEMPTS_AT_ONCE.into()];
        while execute(&transaction, sql, values()).await? >= ATTEMPTS_AT_ONCE.unsigned_abs() {}
        self.audit(&transaction, tenant, AuditAction::DeadLetterDeleted, id, Value::Null, Value::Null)
            .await?;
        transaction.commit().await?;
        Ok(Deleted::Done)
    }

    /// The time of the database's clock, which also sets `died_at`.
    async fn database_time(&self) -> Result<Timestamp, StoreError> {
        let sql = format!("SELECT {} AS now", self.database.dialect().now());
        let row = query_one(&self.database.reads(), sql, []).await?;
        let now = row.map(|row| column(&row, "now")).transpose()?;
        Ok(now.map_or_else(|| self.ids.clock().now(), Timestamp::from_millis))
    }
}

/// Lets PostgreSQL sort in this transaction or not. If not, it reads in the order of an index that has the order, also when
/// it believes that there is next to nothing to sort.
async fn allow_sorting(transaction: &Transaction, allow: bool) -> Result<(), StoreError> {
    if Dialect::of(transaction) == Dialect::Postgres {
        let sql = if allow { "SET LOCAL enable_sort = on" } else { "SET LOCAL enable_sort = off" };
        execute(transaction, sql, []).await?;
    }
    Ok(())
}

impl DeadFilter {
    /// What it selects, for the audit trail.
    fn described(&self) -> String {
        match (&self.subscriber, &self.ids) {
            (Some(subscriber), _) => subscriber.to_string(),
            (None, Some(ids)) if ids.len() == 1 => ids[0].to_string(),
            (None, Some(_)) => "several dead letters".to_owned(),
            (None, None) => "all subscribers".to_owned(),
        }
    }

    fn is_empty(&self) -> bool {
        let Self { ids, subscriber, event_type, reason, since, until } = self;
        ids.is_none()
            && subscriber.is_none()
            && event_type.is_none()
            && reason.is_none()
            && since.is_none()
            && until.is_none()
    }

    fn query(&self, tenant: &TenantId) -> Select<deliveries::Entity> {
        self.conditions(deliveries::Entity::find().filter(deliveries::Column::Tenant.eq(tenant.as_str())))
    }

    /// The same, but PostgreSQL cannot use an index that begins with the tenant.
    fn query_by_subscriber(&self, tenant: &TenantId) -> Select<deliveries::Entity> {
        let tenant = sea_query::ExprTrait::eq(Expr::cust("coalesce(deliveries.tenant, '')"), tenant.as_str());
        self.conditions(deliveries::Entity::find().filter(tenant))
    }

    fn conditions(&self, query: Select<deliveries::Entity>) -> Select<deliveries::Entity> {
        use deliveries::Column as C;

        let mut query = query
            .filter(C::Status.eq(DeliveryStatus::Dead.code()))
            // Makes the planner use the partial indexes on dead letters.
            .filter(C::DiedAt.is_not_null());
        if let Some(ids) = &self.ids {
            query = query.filter(C::Id.is_in(ids.iter().map(|id| id.uuid())));
        }
        if let Some(subscriber) = self.subscriber {
            query = query.filter(C::SubscriberId.eq(subscriber.uuid()));
        }
        if let Some(event_type) = &self.event_type {
            query = query.filter(C::EventType.eq(event_type.as_str()));
        }
        if let Some(reason) = self.reason {
            query = query.filter(C::DeadReason.eq(reason.code()));
        }
        if let Some(since) = self.since {
            query = query.filter(C::DiedAt.gte(since.millis()));
        }
        if let Some(until) = self.until {
            query = query.filter(C::DiedAt.lt(until.millis()));
        }
        query
    }
}
