//! Reading events.

use postrider_core::{AgentId, Channels, EventId, EventType, Metadata, TenantId, Timestamp, id};
use postrider_database::sql::{column, query_one};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult, QuerySelect, Select,
};

use crate::entity::events;
use crate::page::{Examined, Page, PageRequest};
use crate::payload_gone::PayloadGone;
use crate::row::{parse, read_channels, read_metadata, unsigned};
use crate::{Store, StoreError};

/// An event that was dispatched.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event's id.
    pub id: EventId,
    /// The event type.
    pub event_type: EventType,
    /// The agent that emitted it.
    pub agent_id: AgentId,
    /// The size in bytes of its envelope, the body of every delivery; see [`Store::envelopes`].
    pub envelope_size: usize,
    /// Why its payload is not there any more; `None` while it is.
    pub payload_gone: Option<PayloadGone>,
    /// The number of subscribers that it was dispatched to.
    pub subscribers_found: u32,
    /// The number of jobs made for them so far.
    pub jobs_created: u32,
    /// Whether more jobs are to be made.
    pub continues: bool,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// Its channels.
    pub channels: Option<Channels>,
    /// What its application noted about it. It stays when the payload goes.
    pub metadata: Metadata,
    /// The idempotency key of the request that dispatched it.
    pub key: Option<String>,
}

impl Store {
    /// Returns an event of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn event(&self, tenant: &TenantId, id: EventId) -> Result<Option<Event>, StoreError> {
        let query = select(tenant).filter(events::Column::Id.eq(id.uuid()));
        query.into_model::<Row>().one(&self.database.reads()).await?.map(read).transpose()
    }

    /// Returns the event of the tenant that was dispatched under an idempotency key. Keys are kept for a while only.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn event_with_key(&self, tenant: &TenantId, key: &str) -> Result<Option<Event>, StoreError> {
        let sql = "SELECT event_id FROM idempotency_keys WHERE tenant = $1 AND key = $2";
        let found = query_one(&self.database.reads(), sql, [tenant.as_str().into(), key.into()]).await?;
        let Some(found) = found else { return Ok(None) };
        self.event(tenant, EventId::from_uuid(column(&found, "event_id")?)).await
    }

    /// Returns a page of the tenant's events, newest first; with `event_type`, only events of that type. It examines a
    /// bounded number of events, so it may end before it is full, and be empty, although another page follows.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn events(
        &self,
        tenant: &TenantId,
        event_type: Option<&EventType>,
        page: PageRequest<id::Event>,
    ) -> Result<Page<Event, id::Event>, StoreError> {
        let mut query = select(tenant);
        if let Some(before) = page.before {
            query = query.filter(events::Column::Id.lt(before.uuid()));
        }
        let reads = self.database.reads();
        let examined = Examined::of(query.clone(), events::Column::Id, event_type.is_none(), &reads).await?;
        let mut query = examined.within(query, events::Column::Id);
        if let Some(event_type) = event_type {
            query = query.filter(events::Column::EventType.eq(event_type.as_str()));
        }
        let query = query.order_by_desc(events::Column::Id).limit(page.rows());
        let rows = query.into_model::<Row>().all(&reads).await?;
        let items = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(examined.continued(Page::cut(items, page.limit, |event| event.id)))
    }
}

/// The jobs made so far of a row of `events` whose fan-out is not complete; NULL for any other.
pub(crate) const FAN_OUT_JOBS: &str = "(SELECT fan_outs.jobs_created FROM fan_outs \
    WHERE fan_outs.tenant = events.tenant AND fan_outs.event_id = events.id)";

/// The jobs made so far of a row of `events`. Without a fan-out there is one for each subscriber.
pub(crate) const JOBS_CREATED: &str = "coalesce((SELECT fan_outs.jobs_created FROM fan_outs \
    WHERE fan_outs.tenant = events.tenant AND fan_outs.event_id = events.id), events.jobs_created, \
    events.subscribers_found)";

/// The columns that an [`Event`] needs.
#[derive(FromQueryResult)]
struct Row {
    id: sea_orm::prelude::Uuid,
    event_type: String,
    agent_id: String,
    envelope_size: i32,
    payload_gone: Option<i16>,
    subscribers_found: i32,
    jobs_created: i32,
    continues: bool,
    dispatched_at: i64,
    channels: Option<String>,
    metadata: Option<String>,
    idempotency_key: Option<String>,
}

/// Selects events of a tenant without their envelopes, which may be large.
fn select(tenant: &TenantId) -> Select<events::Entity> {
    use events::Column::{AgentId, DispatchedAt, EventType, Id, SubscribersFound, Tenant};

    let columns = events::Entity::find().select_only().columns([
        Id,
        EventType,
        AgentId,
        SubscribersFound,
        DispatchedAt,
    ]);
    columns
        .expr_as(Expr::cust("coalesce(length(envelope), 0)"), "envelope_size")
        .expr_as(Expr::cust("payload_gone"), "payload_gone")
        .expr_as(Expr::cust("channels"), "channels")
        .expr_as(Expr::cust("metadata"), "metadata")
        .expr_as(Expr::cust("idempotency_key"), "idempotency_key")
        .expr_as(Expr::cust(JOBS_CREATED), "jobs_created")
        .expr_as(Expr::cust(format!("{FAN_OUT_JOBS} IS NOT NULL")), "continues")
        .filter(Tenant.eq(tenant.as_str()))
}

/// The columns that [`read_row`] needs, and the envelope, of rows that are called `events`.
pub(crate) fn row_columns() -> String {
    format!(
        "id, event_type, agent_id, envelope, coalesce(length(envelope), 0) AS envelope_size, payload_gone, \
            subscribers_found, {JOBS_CREATED} AS jobs_created, {FAN_OUT_JOBS} IS NOT NULL AS continues, dispatched_at, \
            channels, metadata, idempotency_key"
    )
}

/// The same columns without the envelope, which may be large.
pub(crate) fn row_columns_without_envelope() -> String {
    row_columns().replacen("envelope, ", "", 1)
}

/// Reads an event from a row with these columns.
pub(crate) fn read_row(row: &QueryResult) -> Result<Event, StoreError> {
    read(Row::from_query_result(row, "")?)
}

#[allow(clippy::needless_pass_by_value)] // Passed to `map`, over owned rows.
fn read(row: Row) -> Result<Event, StoreError> {
    let id = EventId::from_uuid(row.id);
    Ok(Event {
        id,
        event_type: parse(&row.event_type, "events", "event_type", id)?,
        agent_id: parse(&row.agent_id, "events", "agent_id", id)?,
        envelope_size: usize::try_from(row.envelope_size).unwrap_or(0),
        payload_gone: PayloadGone::from_code(row.payload_gone),
        subscribers_found: unsigned(row.subscribers_found),
        jobs_created: unsigned(row.jobs_created),
        continues: row.continues,
        dispatched_at: Timestamp::from_millis(row.dispatched_at),
        channels: read_channels(row.channels.as_deref(), "events", id)?,
        metadata: read_metadata(row.metadata.as_deref(), "events", id)?,
        key: row.idempotency_key,
    })
}
