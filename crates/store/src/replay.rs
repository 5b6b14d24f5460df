//! Delivering again what has ended.

use std::collections::HashMap;

use postrider_core::{
    DeadReason, DeliveryId, DeliveryStatus, EventType, JobId, SubscriberId, TenantId, Timestamp, id,
};
use postrider_database::{Batch, Column, Dialect, Kind, Writes};
use postrider_queue::{LaneId, NewJob};
use sea_orm::sea_query::{LockBehavior, LockType, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, Value,
};

use crate::entity::{attempts, deliveries, subscribers};
use crate::history::{Delivery, read_delivery};
use crate::page::{Page, PageRequest};
use crate::row::column;
use crate::{Store, StoreError, rollup};

/// What came of asking to deliver something again, or no more.
#[derive(Clone, Debug)]
pub enum Changed {
    /// It is done; this is the delivery now.
    Done(Box<Delivery>),
    /// The delivery is in a state from which this cannot be.
    Not(DeliveryStatus),
    /// The tenant has no such delivery.
    Missing,
}

/// Which dead letters are wanted; what is not given does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// These.
    pub ids: Option<Vec<DeliveryId>>,
    /// Those to this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// Those of events of this type.
    pub event_type: Option<EventType>,
    /// Those that are dead for this reason.
    pub reason: Option<DeadReason>,
    /// Those that died at or after this moment.
    pub since: Option<Timestamp>,
    /// Those that died before this moment.
    pub until: Option<Timestamp>,
}

/// What of the attempts so far counts against the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptBudget {
    /// None: a new round, with the full schedule.
    FromZero,
    /// All: what has used them up gets one more.
    Keep,
}

/// What came of delivering dead letters again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeued {
    /// How many deliveries are pending again.
    pub deliveries: u64,
    /// There are more of them: call again.
    pub more: bool,
}

/// What came of deleting a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// The delivery is not dead.
    Not(DeliveryStatus),
    /// The tenant has no such delivery.
    Missing,
}

/// How many deliveries one transaction begins anew.
const BATCH: u64 = 500;

impl Store {
    /// Delivers again what has ended: a new round with the full schedule, under the same event id.
    /// Once, also when called twice at the same time.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn retry(&self, tenant: &TenantId, id: DeliveryId) -> Result<Changed, StoreError> {
        let transaction = self.database.begin().await?;
        let query =
            deliveries::Entity::find_by_id(id.uuid()).filter(deliveries::Column::Tenant.eq(tenant.as_str()));
        let query = if self.database.dialect() == Dialect::Postgres { query.lock_exclusive() } else { query };
        let Some(row) = query.one(&transaction).await? else { return Ok(Changed::Missing) };
        let before = read_delivery(&row)?;
        if before.status == DeliveryStatus::Pending {
            return Ok(Changed::Not(before.status));
        }
        self.restart(&transaction, tenant, std::slice::from_ref(&before), AttemptBudget::FromZero).await?;
        transaction.commit().await?;
        self.queue.wake();
        Ok(self.delivery(tenant, id).await?.map_or(Changed::Missing, |now| Changed::Done(Box::new(now))))
    }

    /// The tenant's dead letters, newest first.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        page: PageRequest<id::Delivery>,
    ) -> Result<Page<Delivery, id::Delivery>, StoreError> {
        let mut query = filter.query(tenant);
        if let Some(before) = page.before {
            query = query.filter(deliveries::Column::Id.lt(before.uuid()));
        }
        let query = query.order_by_desc(deliveries::Column::Id).limit(u64::from(page.limit) + 1);
        let rows = query.all(self.database.connection()).await?;
        let items = rows.iter().map(read_delivery).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(items, page.limit, |delivery| delivery.id))
    }

    /// Delivers dead letters again, oldest first, up to `most` of them, in batches each of which is
    /// durable by itself. Each one once, also when called twice at the same time, and when it dies
    /// again meanwhile.
    ///
    /// Those of subscribers that are not active, or no more, stay as they are: there is nobody to
    /// deliver them to.
    ///
    /// # Errors
    /// If the database is away. What was requeued before that stays so.
    pub async fn requeue(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        attempts: AttemptBudget,
        most: u64,
    ) -> Result<Requeued, StoreError> {
        let mut requeued = Requeued::default();
        let called_at = self.database_time().await?;
        loop {
            let limit = BATCH.min(most - requeued.deliveries);
            let transaction = self.database.begin().await?;
            let query = filter
                .query(tenant)
                .filter(deliveries::Column::SubscriberId.in_subquery(active_subscribers(tenant)))
                // Whatever dies again while this goes on is not of this call.
                .filter(deliveries::Column::DiedAt.lte(called_at.millis()))
                .order_by_asc(deliveries::Column::Id)
                // One more than wanted, to know whether there are more.
                .limit(limit + 1);
            let query = if self.database.dialect() == Dialect::Postgres {
                query.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            } else {
                query
            };
            let mut rows = query.all(&transaction).await?;
            requeued.more = rows.len() as u64 > limit;
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let dead = rows.iter().map(read_delivery).collect::<Result<Vec<_>, _>>()?;
            self.restart(&transaction, tenant, &dead, attempts).await?;
            transaction.commit().await?;
            if !dead.is_empty() {
                self.queue.wake();
            }
            requeued.deliveries += dead.len() as u64;
            if !requeued.more || requeued.deliveries >= most {
                return Ok(requeued);
            }
        }
    }

    /// Forgets a dead letter: the delivery and its attempts. What was counted stays counted.
    ///
    /// Tells what the delivery was, if not a dead letter.
    ///
    /// # Errors
    /// If the database is away.
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
        let of_it = attempts::Entity::delete_many()
            .filter(attempts::Column::DeliveryId.eq(id.uuid()))
            .filter(attempts::Column::Tenant.eq(tenant.as_str()));
        of_it.exec(&transaction).await?;
        transaction.commit().await?;
        Ok(Deleted::Done)
    }

    /// Cancels a pending delivery. A request that is in flight still ends, and is recorded.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn cancel(&self, tenant: &TenantId, id: DeliveryId) -> Result<Changed, StoreError> {
        let now = self.database.dialect().now();
        let transaction = self.database.begin().await?;
        let sql = format!(
            "UPDATE deliveries SET status = 3, next_attempt_at = NULL, ended_at = {now} \
             WHERE id = $1 AND tenant = $2 AND status = 0 RETURNING *"
        );
        let values: [Value; 2] = [id.uuid().into(), tenant.as_str().into()];
        let statement = Statement::from_sql_and_values(transaction.get_database_backend(), &sql, values);
        let cancelled = deliveries::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        let Some(row) = cancelled else {
            transaction.rollback().await?;
            let found = self.delivery(tenant, id).await?;
            return Ok(found.map_or(Changed::Missing, |delivery| Changed::Not(delivery.status)));
        };
        let delivery = read_delivery(&row)?;
        let counts =
            rollup::Counts { cancelled: 1, spent: i64::from(delivery.attempts), ..rollup::Counts::default() };
        let mut writes = Writes::new();
        rollup::add(self.shards.next(), HashMap::from([(key(tenant, &delivery), counts)]), &mut writes);
        writes.execute(&transaction).await?;
        transaction.commit().await?;
        Ok(Changed::Done(Box::new(delivery)))
    }

    /// The present moment by the clock that writes down when deliveries die.
    async fn database_time(&self) -> Result<Timestamp, StoreError> {
        let connection = self.database.connection();
        let sql = format!("SELECT {} AS now", self.database.dialect().now());
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let row = connection.query_one_raw(statement).await?;
        let now = row.map(|row| column(&row, "now")).transpose()?;
        Ok(now.map_or_else(|| self.ids.clock().now(), Timestamp::from_millis))
    }

    /// Makes deliveries that have ended pending again, with a new job each.
    async fn restart(
        &self,
        transaction: &DatabaseTransaction,
        tenant: &TenantId,
        ended: &[Delivery],
        attempts: AttemptBudget,
    ) -> Result<(), StoreError> {
        const ANEW: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("job", Kind::Uuid)];
        let mut input = Batch::new(ANEW);
        let mut jobs = Vec::with_capacity(ended.len());
        let mut counts: HashMap<rollup::Key, rollup::Counts> = HashMap::new();
        for delivery in ended {
            let job: JobId = self.ids.next();
            input.push([delivery.id.uuid().into(), job.uuid().into()]);
            let lane = LaneId(delivery.subscriber.uuid());
            jobs.push(NewJob::now(postrider_queue::JobId(job.uuid()), lane, delivery.id.uuid()));
            // What has ended has not, after all.
            let counts = counts.entry(key(tenant, delivery)).or_default();
            counts.spent -= i64::from(delivery.attempts);
            match delivery.status {
                DeliveryStatus::Succeeded => counts.succeeded -= 1,
                DeliveryStatus::Dead => counts.dead -= 1,
                DeliveryStatus::Cancelled => counts.cancelled -= 1,
                DeliveryStatus::Pending => {}
            }
        }
        let round_start = match attempts {
            AttemptBudget::FromZero => "attempts",
            AttemptBudget::Keep => "round_start",
        };
        let sql = format!(
            "UPDATE deliveries SET status = 0, job_id = input.job, round_start = {round_start}, \
                next_attempt_at = NULL, dead_reason = NULL, died_at = NULL, ended_at = NULL \
            FROM input WHERE deliveries.id = input.id"
        );
        input.execute(transaction, &sql, []).await?;
        let mut writes = Writes::new();
        rollup::add(self.shards.next(), counts, &mut writes);
        self.queue.enqueue_with(&jobs, &mut writes);
        Ok(writes.execute(transaction).await?)
    }
}

impl DeadFilter {
    fn query(&self, tenant: &TenantId) -> sea_orm::Select<deliveries::Entity> {
        use deliveries::Column as C;

        let mut query = deliveries::Entity::find()
            .filter(C::Tenant.eq(tenant.as_str()))
            .filter(C::Status.eq(DeliveryStatus::Dead.code()))
            // Leads to the indexes of the dead.
            .filter(C::DiedAt.is_not_null());
        if let Some(ids) = &self.ids {
            query = query.filter(C::Id.is_in(ids.iter().map(|id| id.uuid())));
        }
        if let Some(subscriber) = self.subscriber {
            query = query.filter(C::SubscriberId.eq(subscriber.uuid()));
        }
        if let Some(event) = &self.event_type {
            query = query.filter(C::EventType.eq(event.as_str()));
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

fn active_subscribers(tenant: &TenantId) -> sea_orm::sea_query::SelectStatement {
    let mut query = Query::select();
    query
        .column(subscribers::Column::Id)
        .from(subscribers::Entity)
        .and_where(subscribers::Column::Tenant.eq(tenant.as_str()))
        .and_where(subscribers::Column::Active.eq(true));
    query
}

fn key(tenant: &TenantId, delivery: &Delivery) -> rollup::Key {
    let created_at: Timestamp = delivery.created_at;
    rollup::Key::new(tenant, delivery.subscriber, &delivery.event_type, created_at)
}
