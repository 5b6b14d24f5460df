//! Erasing an event's payload on request, and the responses to its deliveries with it.
//!
//! The event's data goes at once, and no delivery is made of it from then on: a fan-out ends, and a worker that has claimed
//! a job of the event ends it without a request. An event may have very many deliveries, so the rest follows in small
//! steps, each a transaction, which any process can take: pending deliveries end, with their jobs, and the responses that
//! attempts have stored are removed. A request that is in flight is recorded afterwards. So an hour later the same is done
//! once more.

use std::collections::HashMap;

use postrider_core::audit::AuditAction;
use postrider_core::{EventId, EventType, TenantId};
use postrider_database::sql::{column, execute, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

pub use crate::payload_gone::PayloadGone;

use crate::deliveries::{Delivery, Numbering, of_event, read};
use crate::entity::deliveries;
use crate::row::parse;
use crate::turn::Turn;
use crate::{Store, StoreError};

/// The time in milliseconds after which the responses are erased once more: far longer than a request and its recording
/// take.
const AGAIN_AFTER: i64 = 60 * 60 * 1000;

/// A step ends with the delivery with which its attempts are more than this.
const ATTEMPTS_AT_ONCE: u64 = 1_000;

/// Removes what was sent and answered in the deliveries of a tenant within a range of ids.
pub(crate) const ERASE_RESPONSES: [&str; 2] = [
    "UPDATE deliveries SET first_response = NULL, first_exchange = NULL \
    WHERE tenant = $1 AND id BETWEEN $2 AND $3 AND (first_response IS NOT NULL OR first_exchange IS NOT NULL)",
    "UPDATE attempts SET response_headers = NULL, response_body = NULL, exchange = NULL \
    WHERE tenant = $1 AND delivery_id BETWEEN $2 AND $3 \
        AND (response_headers IS NOT NULL OR response_body IS NOT NULL OR exchange IS NOT NULL)",
];

/// The result of a step of [`Store::erase_responses`].
#[derive(Clone, Debug)]
pub struct Erasing {
    /// The tenant that owns the event.
    pub tenant: TenantId,
    /// The event.
    pub event: EventId,
    /// How many deliveries of each event type were cancelled.
    pub cancelled: HashMap<EventType, u64>,
    /// Whether all deliveries have been looked at.
    pub complete: bool,
}

/// An erasure that goes on.
struct Pending {
    tenant: TenantId,
    event: EventId,
    reached: Uuid,
    last_pass: bool,
}

impl Store {
    /// Erases the data of an event of the tenant, and promises to erase the rest. Returns `false` if the tenant has no such
    /// event. May be repeated.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The data may have been erased all the same.
    pub async fn erase_payload(&self, tenant: &TenantId, event: EventId) -> Result<bool, StoreError> {
        let key = || [tenant.as_str().into(), event.uuid().into()];
        let transaction = self.database.begin().await?;
        // Waits for a step that is being taken. No step follows.
        let sql = "DELETE FROM fan_outs WHERE tenant = $1 AND event_id = $2 RETURNING jobs_created";
        let fanned_out = query_one(&transaction, sql, key()).await?;
        let jobs: Option<i32> = fanned_out.map(|row| column(&row, "jobs_created")).transpose()?;
        let dialect = self.database.dialect();
        let (envelope, erased) = (no_envelope(dialect), PayloadGone::Erased.code());
        let sql = format!(
            "UPDATE events SET envelope = {envelope}, payload_gone = {erased}, \
                jobs_created = coalesce(CAST($3 AS integer), jobs_created) \
            WHERE tenant = $1 AND id = $2 AND (payload_gone IS NULL OR payload_gone <> {erased})"
        );
        let values = [tenant.as_str().into(), event.uuid().into(), jobs.into()];
        if execute(&transaction, sql, values).await? == 0 {
            transaction.rollback().await?;
            return Ok(self.event(tenant, event).await?.is_some());
        }
        let sql = format!(
            "INSERT INTO erasures (tenant, event_id, reached, due_at, last_pass) \
            VALUES ($1, $2, $3, {}, false) ON CONFLICT DO NOTHING",
            dialect.now()
        );
        let values = [tenant.as_str().into(), event.uuid().into(), Uuid::nil().into()];
        execute(&transaction, sql, values).await?;
        let nothing = serde_json::Value::Null;
        self.audit(&transaction, tenant, AuditAction::PayloadErased, event, nothing.clone(), nothing).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Takes the next step of an erasure: ends up to `max` deliveries of an event if they are pending, and erases the stored
    /// responses to them. Erasures take turns. Returns `None` if there is nothing to do now, or if another process is at
    /// work.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn erase_responses(&self, max: u32) -> Result<Option<Erasing>, StoreError> {
        // Read first: finding nothing must not cost a transaction.
        if next(self.database.connection()).await?.is_none() {
            return Ok(None);
        }
        let transaction = self.database.begin().await?;
        if !Turn::ERASING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let Some(pending) = next(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let (found, numbering) = pending.deliveries(&transaction, max).await?;
        let mut erasing = Erasing {
            tenant: pending.tenant.clone(),
            event: pending.event,
            cancelled: HashMap::new(),
            complete: found.is_empty(),
        };
        // Deliveries are locked before lanes.
        erase(&transaction, &pending.tenant, &found, numbering).await?;
        erasing.cancelled = self.cancel_pending(&transaction, &pending.tenant, &found).await?.deliveries;
        pending.advance(&transaction, found.last()).await?;
        transaction.commit().await?;
        Ok(Some(erasing))
    }

    /// Returns which of a tenant's events have no payload any more, and why.
    pub(crate) async fn gone_payloads(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        events: impl Iterator<Item = EventId>,
    ) -> Result<HashMap<EventId, PayloadGone>, StoreError> {
        let named = events.map(|event| (tenant, event));
        let (input, events) = crate::event_keys::look_up(self.database.dialect(), named);
        let sql = format!(
            "SELECT events.id, events.payload_gone FROM input {events} WHERE events.payload_gone IS NOT NULL"
        );
        let mut gone = HashMap::new();
        for row in &input.query(connection, &sql, []).await? {
            let why = PayloadGone::from_code(column(row, "payload_gone")?);
            let event = EventId::from_uuid(column(row, "id")?);
            gone.extend(why.map(|why| (event, why)));
        }
        Ok(gone)
    }
}

/// The value of `events.envelope` once the payload is gone.
pub(crate) const fn no_envelope(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "NULL",
        Dialect::Sqlite => "x''",
    }
}

async fn next(connection: &impl ConnectionTrait) -> Result<Option<Pending>, StoreError> {
    let now = Dialect::of(connection).now();
    let sql = format!(
        "SELECT tenant, event_id, reached, last_pass FROM erasures WHERE due_at <= {now} ORDER BY due_at LIMIT 1"
    );
    let Some(row) = query_one(connection, sql, []).await? else { return Ok(None) };
    let event = EventId::from_uuid(column(&row, "event_id")?);
    Ok(Some(Pending {
        tenant: parse(&column::<String>(&row, "tenant")?, "erasures", "tenant", event)?,
        event,
        reached: column(&row, "reached")?,
        last_pass: column(&row, "last_pass")?,
    }))
}

impl Pending {
    /// Returns the next deliveries of the event, and how they name it.
    async fn deliveries(
        &self,
        transaction: &Transaction,
        max: u32,
    ) -> Result<(Vec<Delivery>, Numbering), StoreError> {
        use deliveries::Column as C;

        for numbering in [Numbering::InIds, Numbering::Apart] {
            let query = deliveries::Entity::find()
                .filter(C::Tenant.eq(self.tenant.as_str()))
                .filter(of_event(self.event, numbering))
                .filter(C::Id.gt(self.reached))
                .order_by_asc(C::Id)
                .limit(u64::from(max));
            let mut attempts = 0;
            let mut found = Vec::new();
            for row in &query.all(transaction).await? {
                let delivery = read(row)?;
                attempts += u64::from(delivery.attempts);
                found.push(delivery);
                if attempts > ATTEMPTS_AT_ONCE {
                    break;
                }
            }
            if !found.is_empty() {
                return Ok((found, numbering));
            }
        }
        Ok((Vec::new(), Numbering::InIds))
    }

    /// Notes how far the erasure has come. Others have their turn before its next step.
    async fn advance(&self, transaction: &Transaction, last: Option<&Delivery>) -> Result<(), StoreError> {
        let key = [self.tenant.as_str().into(), self.event.uuid().into()];
        if last.is_none() && self.last_pass {
            let sql = "DELETE FROM erasures WHERE tenant = $1 AND event_id = $2";
            execute(transaction, sql, key).await?;
            return Ok(());
        }
        let (reached, delay) = last.map_or((Uuid::nil(), AGAIN_AFTER), |last| (last.id.uuid(), 0));
        let last_pass = self.last_pass || last.is_none();
        let now = Dialect::of(transaction).now();
        let sql = format!(
            "UPDATE erasures SET reached = $3, due_at = {now} + {delay}, last_pass = $4 \
            WHERE tenant = $1 AND event_id = $2"
        );
        let [tenant, event] = key;
        execute(transaction, sql, [tenant, event, reached.into(), last_pass.into()]).await?;
        Ok(())
    }
}

/// Erases the stored responses to these deliveries, which are in the order of their ids.
async fn erase(
    transaction: &Transaction,
    tenant: &TenantId,
    found: &[Delivery],
    numbering: Numbering,
) -> Result<(), StoreError> {
    let ids = || found.iter().map(|delivery| delivery.id.uuid());
    let ranges: Vec<(Uuid, Uuid)> = match numbering {
        Numbering::InIds => ids().next().zip(ids().next_back()).into_iter().collect(),
        // Deliveries of other events are between them.
        Numbering::Apart => ids().map(|id| (id, id)).collect(),
    };
    for (first, last) in ranges {
        for sql in ERASE_RESPONSES {
            execute(transaction, sql, [tenant.as_str().into(), first.into(), last.into()]).await?;
        }
    }
    Ok(())
}
