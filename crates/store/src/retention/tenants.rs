//! Removing the data of tenants that have a shorter retention than the rest of the deployment.
//!
//! Their events are among those of others, so they are deleted in small batches on both databases, in the order of their
//! ids. Data of the first edition stays as long as the deployment keeps it.

use std::collections::VecDeque;
use std::time::Duration;

use postrider_core::{DeliveryStatus, EventId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::{Age, Retention};
use crate::erasure::{ERASE_RESPONSES, PayloadGone, no_envelope};
use crate::row::{DEAD, PENDING, parse, status};
use crate::turn::Turn;
use crate::{Store, StoreError};

/// How many events a step looks at, and how many of them it takes with how many deliveries. An event with more is taken
/// alone, so many deliveries at a time.
const LOOKED_AT: u32 = 2_000;
const EVENTS: usize = 100;
const DELIVERIES: u32 = 1_000;
const AT_ONCE: u32 = 500;

/// How far a run of [`Store::remove_expired_of_tenants`] has come. Each run begins with a new one.
#[derive(Debug, Default)]
pub struct TenantSweep {
    /// The tenants that are left; `None` until the run has begun.
    left: Option<VecDeque<Own>>,
    /// The last event of the first of them that was looked at.
    reached: Uuid,
}

/// What a call of [`Store::remove_expired_of_tenants`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfTenant {
    /// How many events it deleted.
    pub events: u64,
    /// Of how many more events it removed the payloads.
    pub payloads: u64,
}

/// What of a tenant's data may go.
#[derive(Clone, Debug)]
struct Own {
    tenant: TenantId,
    /// Events before this one go, and the payloads of events before that one.
    history_before: Uuid,
    payloads_before: Uuid,
    /// A delivery that died later keeps its event.
    dead_until: i64,
}

impl Own {
    /// `None` if the tenant's data is kept as long as that of the deployment.
    fn of(tenant: TenantId, ages: [Option<Age>; 3], whole: Retention, now: Timestamp) -> Option<Self> {
        let [history, payloads, dead] = ages;
        let own = |age: Option<Age>, whole: Age| age.map_or(whole, |age| age.min(whole));
        let history = own(history, whole.history);
        let payloads = own(payloads, whole.payloads).min(history);
        let dead = own(dead, whole.dead).max(history);
        if (history, payloads) == (whole.history, whole.payloads) {
            return None;
        }
        // The rest of the deployment goes by the day, or in batches, without regard to tenants.
        let goes =
            |age: Age, whole: Age| age.before(now).filter(|_| age != whole).map_or(Uuid::nil(), first_at);
        let history_before = goes(history, whole.history);
        let payloads_before =
            if payloads == history { history_before } else { goes(payloads, whole.payloads) };
        let dead_until = dead.before(now).map_or(-1, |before| before.millis() - 1);
        Some(Self { tenant, history_before, payloads_before, dead_until })
    }

    fn end(&self) -> Uuid {
        self.history_before.max(self.payloads_before)
    }
}

/// The least id of an event of a moment.
fn first_at(moment: Timestamp) -> Uuid {
    Uuid::from_u128(u128::from(moment.millis().unsigned_abs()) << 80)
}

/// An event that may go, or its payload.
struct Due {
    event: EventId,
    subscribers: u32,
}

impl Due {
    fn read(row: &QueryResult) -> Result<Self, StoreError> {
        let subscribers = u32::try_from(column::<i32>(row, "subscribers_found")?).unwrap_or(0);
        Ok(Self { event: EventId::from_uuid(column(row, "id")?), subscribers })
    }

    fn is_wide(&self) -> bool {
        self.subscribers > DELIVERIES
    }

    /// The range of its deliveries.
    fn range(&self) -> [Uuid; 2] {
        let deliveries = self.event.deliveries();
        [deliveries.start().uuid(), deliveries.end().uuid()]
    }
}

impl Store {
    /// Takes the next step of a run that removes what is older than tenants' own retention: an event with all that belongs
    /// to it, or its payload. An event stays while one of its deliveries is pending, while its fan-out goes on, and while
    /// one of its deliveries is a dead letter that is to be kept. Returns `None` at the end of the run, or if another
    /// process takes a step.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Steps that were taken before stay taken.
    pub async fn remove_expired_of_tenants(
        &self,
        retention: Retention,
        sweep: &mut TenantSweep,
    ) -> Result<Option<OfTenant>, StoreError> {
        if sweep.left.is_none() {
            sweep.reached = self.end_of_first_edition().await?;
            sweep.left = Some(self.with_own_retention(retention).await?);
        }
        let Some(own) = sweep.left.as_ref().and_then(VecDeque::front) else { return Ok(None) };
        let sql = format!(
            "SELECT id, subscribers_found, payload_gone FROM events WHERE tenant = $1 AND id > $2 AND id < $3 \
            ORDER BY id LIMIT {LOOKED_AT}"
        );
        let values = [own.tenant.as_str().into(), sweep.reached.into(), own.end().into()];
        let found = query_all(&self.database.reads(), &sql, values).await?;
        let Some(last) = found.last() else {
            sweep.reached = self.end_of_first_edition().await?;
            sweep.left.as_mut().and_then(VecDeque::pop_front);
            return Ok(Some(OfTenant::default()));
        };
        let mut reached = column(last, "id")?;
        let (mut batch, mut deliveries) = (Vec::new(), 0);
        for row in &found {
            let due = Due::read(row)?;
            let is_stripped = column::<Option<i16>>(row, "payload_gone")?.is_some();
            if is_stripped && due.event.uuid() >= own.history_before {
                continue;
            }
            let is_full = batch.len() == EVENTS || deliveries + due.subscribers > DELIVERIES;
            if is_full && !batch.is_empty() {
                // The step ends before it.
                reached = Uuid::from_u128(due.event.uuid().as_u128() - 1);
                break;
            }
            deliveries += due.subscribers;
            batch.push(due);
        }
        let transaction = self.database.begin().await?;
        if !Turn::EXPIRING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let mut done = OfTenant::default();
        for due in &batch {
            if !is_left(&transaction, own, due).await? {
                continue;
            }
            if due.event.uuid() >= own.history_before {
                strip(&transaction, own, due).await?;
                done.payloads += 1;
            } else if delete(&transaction, own, due).await? {
                done.events += 1;
            } else {
                // Its next deliveries follow in the next step.
                reached = Uuid::from_u128(due.event.uuid().as_u128() - 1);
            }
        }
        transaction.commit().await?;
        sweep.reached = reached;
        Ok(Some(done))
    }

    /// The tenants with a retention of their own that is shorter than the deployment's.
    async fn with_own_retention(&self, whole: Retention) -> Result<VecDeque<Own>, StoreError> {
        let sql = "SELECT id, retain_history, retain_payloads, retain_dead FROM tenants \
            WHERE retain_history IS NOT NULL OR retain_payloads IS NOT NULL OR retain_dead IS NOT NULL ORDER BY id";
        let now = self.ids.clock().now();
        let mut all = VecDeque::new();
        for row in &query_all(&self.database.reads(), sql, []).await? {
            let id: String = column(row, "id")?;
            let age = |name| -> Result<Option<Age>, StoreError> {
                let millis: Option<i64> = column(row, name)?;
                Ok(millis.map(|millis| Age::For(Duration::from_millis(millis.unsigned_abs()))))
            };
            let ages = [age("retain_history")?, age("retain_payloads")?, age("retain_dead")?];
            all.extend(Own::of(parse(&id, "tenants", "id", &id)?, ages, whole, now));
        }
        Ok(all)
    }

    /// Events of the first edition, whose deliveries have other ids, come before this one.
    async fn end_of_first_edition(&self) -> Result<Uuid, StoreError> {
        let sql = "SELECT ends_at FROM partitions WHERE converted";
        let row = query_one(&self.database.reads(), sql, []).await?;
        let end: Option<i64> = row.map(|row| column(&row, "ends_at")).transpose()?;
        Ok(end.map_or(Uuid::nil(), |end| first_at(Timestamp::from_millis(end))))
    }
}

/// Locks an event, and its deliveries unless they are many. Returns whether nothing keeps it.
async fn is_left(transaction: &Transaction, own: &Own, due: &Due) -> Result<bool, StoreError> {
    let lock = lock_clause(Dialect::of(transaction));
    let tenant = || own.tenant.as_str().into();
    let key = || [tenant(), due.event.uuid().into()];
    let sql = format!("SELECT 1 AS one FROM events WHERE tenant = $1 AND id = $2{lock}");
    if query_one(transaction, &sql, key()).await?.is_none() {
        return Ok(false);
    }
    let sql = "SELECT 1 AS one FROM fan_outs WHERE tenant = $1 AND event_id = $2";
    if query_one(transaction, sql, key()).await?.is_some() {
        return Ok(false);
    }
    let [first, last] = due.range();
    let range = || [tenant(), first.into(), last.into()];
    if due.is_wide() {
        let sql = format!(
            "SELECT 1 AS one FROM deliveries WHERE tenant = $1 AND id BETWEEN $2 AND $3 \
                AND (status = {PENDING} OR status = {DEAD} AND died_at > {}) LIMIT 1",
            own.dead_until
        );
        return Ok(query_one(transaction, &sql, range()).await?.is_none());
    }
    let sql = format!(
        "SELECT id, status, died_at FROM deliveries WHERE tenant = $1 AND id BETWEEN $2 AND $3 ORDER BY id{lock}"
    );
    for row in &query_all(transaction, &sql, range()).await? {
        let id: Uuid = column(row, "id")?;
        let died_at: Option<i64> = column(row, "died_at")?;
        let keeps = match status(column(row, "status")?, id)? {
            DeliveryStatus::Pending => true,
            DeliveryStatus::Dead => died_at.is_some_and(|died_at| died_at > own.dead_until),
            DeliveryStatus::Succeeded | DeliveryStatus::Cancelled => false,
        };
        if keeps {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the payload of an event. The responses to many deliveries follow as after an erasure on request.
async fn strip(transaction: &Transaction, own: &Own, due: &Due) -> Result<(), StoreError> {
    let dialect = Dialect::of(transaction);
    let tenant = || own.tenant.as_str().into();
    let sql = format!(
        "UPDATE events SET envelope = {}, payload_gone = {} WHERE tenant = $1 AND id = $2 AND payload_gone IS NULL",
        no_envelope(dialect),
        PayloadGone::Expired.code()
    );
    execute(transaction, sql, [tenant(), due.event.uuid().into()]).await?;
    if due.is_wide() {
        let sql = format!(
            "INSERT INTO erasures (tenant, event_id, reached, due_at, last_pass) VALUES ($1, $2, $3, {}, false) \
            ON CONFLICT DO NOTHING",
            dialect.now()
        );
        execute(transaction, sql, [tenant(), due.event.uuid().into(), Uuid::nil().into()]).await?;
        return Ok(());
    }
    let [first, last] = due.range();
    for sql in ERASE_RESPONSES {
        execute(transaction, sql, [tenant(), first.into(), last.into()]).await?;
    }
    Ok(())
}

/// Deletes an event with its deliveries and attempts, or some of its deliveries if they are many. Returns whether nothing of
/// it is left.
async fn delete(transaction: &Transaction, own: &Own, due: &Due) -> Result<bool, StoreError> {
    let tenant = || own.tenant.as_str().into();
    let [first, mut last] = due.range();
    let mut is_last = true;
    if due.is_wide() {
        let lock = lock_clause(Dialect::of(transaction));
        let sql = format!(
            "SELECT id, status FROM deliveries WHERE tenant = $1 AND id BETWEEN $2 AND $3 ORDER BY id LIMIT {AT_ONCE}{lock}"
        );
        let found = query_all(transaction, &sql, [tenant(), first.into(), last.into()]).await?;
        for row in &found {
            // Retried since.
            if column::<i16>(row, "status")? == PENDING {
                return Ok(false);
            }
        }
        if let Some(row) = found.last()
            && found.len() == AT_ONCE as usize
        {
            (last, is_last) = (column(row, "id")?, false);
        }
    }
    for sql in [
        "DELETE FROM attempts WHERE tenant = $1 AND delivery_id BETWEEN $2 AND $3",
        "DELETE FROM deliveries WHERE tenant = $1 AND id BETWEEN $2 AND $3",
    ] {
        execute(transaction, sql, [tenant(), first.into(), last.into()]).await?;
    }
    if is_last {
        let sql = "DELETE FROM events WHERE tenant = $1 AND id = $2";
        execute(transaction, sql, [tenant(), due.event.uuid().into()]).await?;
    }
    Ok(is_last)
}
