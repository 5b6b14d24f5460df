//! Events, deliveries and attempts, as they are read back.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::{
    AgentId, AttemptId, DeadReason, DeliveryId, DeliveryStatus, ErrorKind, EventId, EventType, JobId,
    SubscriberId, TenantId, Timestamp, Verdict, id,
};
use postrider_database::DatabaseError;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::{attempts, deliveries, events};
use crate::page::{Page, PageRequest};
use crate::row::{dead_reason, error_kind, parse, response_status, status, timestamp, unsigned};
use crate::{Store, StoreError};

/// An event that was dispatched.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Who emitted it.
    pub agent_id: AgentId,
    /// The body that every subscriber gets.
    pub envelope: Bytes,
    /// How many subscribers it had.
    pub subscribers_found: u32,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
}

/// A delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// What is delivered.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// To whom.
    pub subscriber: SubscriberId,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// How many attempts it has had.
    pub attempts: u32,
    /// The job that works, or worked, on it.
    pub job: Option<JobId>,
    /// When the next attempt is due; none before the first one and after the last one.
    pub next_attempt_at: Option<Timestamp>,
    /// The HTTP status of the last attempt, if there was an answer.
    pub response_status: Option<u16>,
    /// Why the last attempt failed, if it did.
    pub error_kind: Option<ErrorKind>,
    /// Why it is dead, if it is.
    pub dead_reason: Option<DeadReason>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// An attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Which one it was, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took in all.
    pub duration: Duration,
    /// The answer's status, if there was an answer.
    pub response_status: Option<u16>,
    /// The answer's headers; a byte of a value is the character of that number.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body.
    pub response_body: Bytes,
    /// Whether there was more of the body.
    pub response_truncated: bool,
    /// Whether it succeeded, and why not.
    pub verdict: Verdict,
}

/// Which deliveries are wanted; what is not given does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Those to this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// Those of events of this type.
    pub event_type: Option<EventType>,
    /// Those of this event.
    pub event_id: Option<EventId>,
    /// Those that stand so.
    pub status: Option<DeliveryStatus>,
    /// Those whose last answer had this status.
    pub response_status: Option<u16>,
    /// Those made at or after this moment.
    pub since: Option<Timestamp>,
    /// Those made before this moment.
    pub until: Option<Timestamp>,
}

impl Store {
    /// An event of the tenant's.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn event(&self, tenant: &TenantId, id: EventId) -> Result<Option<Event>, StoreError> {
        let query = events::Entity::find_by_id(id.uuid()).filter(events::Column::Tenant.eq(tenant.as_str()));
        query.one(self.database.connection()).await?.map(read_event).transpose()
    }

    /// The tenant's events, newest first; only those of one type if `event` is given.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn events(
        &self,
        tenant: &TenantId,
        event: Option<&EventType>,
        page: PageRequest<id::Event>,
    ) -> Result<Page<Event, id::Event>, StoreError> {
        let mut query = events::Entity::find().filter(events::Column::Tenant.eq(tenant.as_str()));
        if let Some(event) = event {
            query = query.filter(events::Column::EventType.eq(event.as_str()));
        }
        if let Some(before) = page.before {
            query = query.filter(events::Column::Id.lt(before.uuid()));
        }
        let query = query.order_by_desc(events::Column::Id).limit(u64::from(page.limit) + 1);
        let rows = query.all(self.database.connection()).await?;
        let items = rows.into_iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(items, page.limit, |event| event.id))
    }

    /// A delivery of the tenant's.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let query =
            deliveries::Entity::find_by_id(id.uuid()).filter(deliveries::Column::Tenant.eq(tenant.as_str()));
        query.one(self.database.connection()).await?.as_ref().map(read_delivery).transpose()
    }

    /// The tenant's deliveries, newest first.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        filter: &DeliveryFilter,
        page: PageRequest<id::Delivery>,
    ) -> Result<Page<Delivery, id::Delivery>, StoreError> {
        use deliveries::Column as C;

        let mut query = deliveries::Entity::find().filter(C::Tenant.eq(tenant.as_str()));
        if let Some(subscriber) = filter.subscriber {
            query = query.filter(C::SubscriberId.eq(subscriber.uuid()));
        }
        if let Some(event) = &filter.event_type {
            query = query.filter(C::EventType.eq(event.as_str()));
        }
        if let Some(event) = filter.event_id {
            query = query.filter(C::EventId.eq(event.uuid()));
        }
        if let Some(status) = filter.status {
            query = query.filter(C::Status.eq(status.code()));
            if status == DeliveryStatus::Dead {
                // Leads to the index of the dead.
                query = query.filter(C::DiedAt.is_not_null());
            }
        }
        if let Some(code) = filter.response_status {
            query = query.filter(C::ResponseStatus.eq(i16::try_from(code).unwrap_or(-1)));
        }
        if let Some(since) = filter.since {
            query = query.filter(C::CreatedAt.gte(since.millis()));
        }
        if let Some(until) = filter.until {
            query = query.filter(C::CreatedAt.lt(until.millis()));
        }
        if let Some(before) = page.before {
            query = query.filter(C::Id.lt(before.uuid()));
        }
        let query = query.order_by_desc(C::Id).limit(u64::from(page.limit) + 1);
        let rows = query.all(self.database.connection()).await?;
        let items = rows.iter().map(read_delivery).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(items, page.limit, |delivery| delivery.id))
    }

    /// The attempts of a delivery of the tenant's, oldest first.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<Attempt>, StoreError> {
        let query = attempts::Entity::find()
            .filter(attempts::Column::DeliveryId.eq(delivery.uuid()))
            .filter(attempts::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(attempts::Column::Id)
            // A round has 30 at most; rounds without end are cut here.
            .limit(1_000);
        query.all(self.database.connection()).await?.into_iter().map(read_attempt).collect()
    }
}

fn read_event(row: events::Model) -> Result<Event, StoreError> {
    Ok(Event {
        id: EventId::from_uuid(row.id),
        event_type: parse(&row.event_type, "events", "event_type")?,
        agent_id: parse(&row.agent_id, "events", "agent_id")?,
        envelope: row.envelope.into(),
        subscribers_found: unsigned(row.subscribers_found),
        dispatched_at: Timestamp::from_millis(row.dispatched_at),
    })
}

pub(crate) fn read_delivery(row: &deliveries::Model) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: DeliveryId::from_uuid(row.id),
        event_id: EventId::from_uuid(row.event_id),
        event_type: parse(&row.event_type, "deliveries", "event_type")?,
        subscriber: SubscriberId::from_uuid(row.subscriber_id),
        status: status(row.status)?,
        attempts: unsigned(row.attempts),
        job: row.job_id.map(JobId::from_uuid),
        next_attempt_at: timestamp(row.next_attempt_at),
        response_status: response_status(row.response_status),
        error_kind: error_kind(row.error_kind),
        dead_reason: dead_reason(row.dead_reason),
        created_at: Timestamp::from_millis(row.created_at),
        ended_at: timestamp(row.ended_at),
    })
}

fn read_attempt(row: attempts::Model) -> Result<Attempt, StoreError> {
    let headers = row.response_headers.as_deref().map(serde_json::from_slice).transpose();
    Ok(Attempt {
        id: AttemptId::from_uuid(row.id),
        number: unsigned(row.number),
        started_at: Timestamp::from_millis(row.started_at),
        duration: Duration::from_micros(u64::try_from(row.duration_us).unwrap_or(0)),
        response_status: response_status(row.response_status),
        response_headers: headers
            .map_err(|error| DatabaseError::inconsistent("attempts", "response_headers", &error))?
            .unwrap_or_default(),
        response_body: row.response_body.unwrap_or_default().into(),
        response_truncated: row.response_truncated,
        verdict: Verdict::from_parts(error_kind(row.error_kind), row.error_detail),
    })
}
