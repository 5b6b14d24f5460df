//! Reading deliveries.

use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::{
    DeadReason, DeliveryId, DeliveryStatus, ErrorKind, EventId, EventPattern, EventType, Id, JobId,
    SubscriberId, TenantId, Timestamp, id,
};
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder, QuerySelect, Select,
};

use crate::entity::deliveries;
use crate::page::{Examined, Page, PageRequest, first_at};
use crate::row::{dead_reason, error_kind, parse, response_status, signed, status, timestamp, unsigned};
use crate::{Store, StoreError};

/// A delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The delivery's id.
    pub id: DeliveryId,
    /// The event to deliver.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The subscriber to deliver to.
    pub subscriber: SubscriberId,
    /// The status.
    pub status: DeliveryStatus,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The job that works on it, or did last.
    pub job: Option<JobId>,
    /// When the next attempt is due; `None` before the first attempt and after the last one.
    pub next_attempt_at: Option<Timestamp>,
    /// The HTTP status of the last attempt, if the receiver responded.
    pub response_status: Option<u16>,
    /// Why the last attempt failed, if it did.
    pub error_kind: Option<ErrorKind>,
    /// Why it is dead, if it is.
    pub dead_reason: Option<DeadReason>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended; `None` while it is pending.
    pub ended_at: Option<Timestamp>,
}

/// Selects deliveries. A delivery must match every field that is not `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// The subscriber.
    pub subscriber: Option<SubscriberId>,
    /// The event's type matches.
    pub event_type: Option<EventPattern>,
    /// The event.
    pub event_id: Option<EventId>,
    /// The status.
    pub status: Option<DeliveryStatus>,
    /// The HTTP status of the last response is one of these.
    pub response_status: Option<RangeInclusive<u16>>,
    /// Why the last attempt failed.
    pub error_kind: Option<ErrorKind>,
    /// Why it is dead.
    pub dead_reason: Option<DeadReason>,
    /// The least number of attempts.
    pub min_attempts: Option<u32>,
    /// The greatest number of attempts.
    pub max_attempts: Option<u32>,
    /// Created at or after this moment.
    pub since: Option<Timestamp>,
    /// Created before this moment.
    pub until: Option<Timestamp>,
}

impl DeliveryFilter {
    /// Returns whether a delivery matches.
    pub(crate) fn matches(&self, delivery: &Delivery) -> bool {
        let Self { subscriber, event_type, event_id, status, response_status, .. } = self;
        let Self { error_kind, dead_reason, min_attempts, max_attempts, since, until, .. } = self;
        let responded =
            |codes: &RangeInclusive<u16>| delivery.response_status.is_some_and(|code| codes.contains(&code));
        subscriber.is_none_or(|subscriber| subscriber == delivery.subscriber)
            && event_type.as_ref().is_none_or(|pattern| pattern.matches(&delivery.event_type))
            && event_id.is_none_or(|event| event == delivery.event_id)
            && status.is_none_or(|status| status == delivery.status)
            && response_status.as_ref().is_none_or(responded)
            && error_kind.is_none_or(|kind| Some(kind) == delivery.error_kind)
            && dead_reason.is_none_or(|reason| Some(reason) == delivery.dead_reason)
            && min_attempts.is_none_or(|least| delivery.attempts >= least)
            && max_attempts.is_none_or(|most| delivery.attempts <= most)
            && since.is_none_or(|since| delivery.created_at >= since)
            && until.is_none_or(|until| delivery.created_at < until)
    }

    /// Whether an index finds exactly the deliveries that match.
    fn is_met_by_candidates(&self) -> bool {
        let Self { subscriber, event_id, status, .. } = self;
        let found = Self { subscriber: *subscriber, event_id: *event_id, status: *status, ..Self::default() };
        *self == found && status.is_none_or(|status| status == DeliveryStatus::Dead)
    }

    /// Narrows a query to rows that match what no index finds.
    fn matching(&self, mut query: Select<deliveries::Entity>) -> Select<deliveries::Entity> {
        use deliveries::Column as C;

        if let Some(pattern) = &self.event_type {
            query = query.filter(of_type(pattern));
        }
        if let Some(status) = self.status {
            query = query.filter(C::Status.eq(status.code()));
        }
        if let Some(codes) = &self.response_status {
            let stored = |code: &u16| i16::try_from(*code).unwrap_or(i16::MAX);
            query = query.filter(C::ResponseStatus.between(stored(codes.start()), stored(codes.end())));
        }
        if let Some(kind) = self.error_kind {
            query = query.filter(C::ErrorKind.eq(kind.code()));
        }
        if let Some(reason) = self.dead_reason {
            query = query.filter(C::DeadReason.eq(reason.code()));
        }
        if let Some(least) = self.min_attempts {
            query = query.filter(C::Attempts.gte(signed(least)));
        }
        if let Some(most) = self.max_attempts {
            query = query.filter(C::Attempts.lte(signed(most)));
        }
        if let Some(since) = self.since {
            query = query.filter(C::CreatedAt.gte(since.millis()));
        }
        if let Some(until) = self.until {
            query = query.filter(C::CreatedAt.lt(until.millis()));
        }
        query
    }
}

impl Store {
    /// Returns a delivery of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let query =
            deliveries::Entity::find_by_id(id.uuid()).filter(deliveries::Column::Tenant.eq(tenant.as_str()));
        query.one(&self.database.reads()).await?.as_ref().map(read).transpose()
    }

    /// Returns a page of the tenant's deliveries, newest first. It examines a bounded number of deliveries, so it may end
    /// before it is full, and be empty, although another page follows.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn deliveries(
        &self,
        tenant: &TenantId,
        filter: &DeliveryFilter,
        page: PageRequest<id::Delivery>,
    ) -> Result<Page<Delivery, id::Delivery>, StoreError> {
        // The last bits of one in a million events of the first edition are zero by chance.
        if filter.event_id.is_some_and(EventId::numbers_deliveries) {
            let found = self.page(tenant, filter, Numbering::InIds, page).await?;
            if !found.items.is_empty() || found.next.is_some() {
                return Ok(found);
            }
        }
        self.page(tenant, filter, Numbering::Apart, page).await
    }

    async fn page(
        &self,
        tenant: &TenantId,
        filter: &DeliveryFilter,
        numbering: Numbering,
        page: PageRequest<id::Delivery>,
    ) -> Result<Page<Delivery, id::Delivery>, StoreError> {
        use deliveries::Column as C;

        let mut query = deliveries::Entity::find().filter(C::Tenant.eq(tenant.as_str()));
        if let Some(subscriber) = filter.subscriber {
            query = query.filter(C::SubscriberId.eq(subscriber.uuid()));
        }
        if let Some(event) = filter.event_id {
            query = query.filter(of_event(event, numbering));
        }
        if filter.status == Some(DeliveryStatus::Dead) {
            // Makes the planner use the partial index on dead letters.
            query = query.filter(C::DiedAt.is_not_null());
        }
        // No delivery is made before its id. So what is newer need not be examined.
        let newest = filter.until.map(|until| first_at(until + MADE_BEFORE));
        if let Some(before) = page.before.map(Id::uuid).into_iter().chain(newest).min() {
            query = query.filter(C::Id.lt(before));
        }
        let reads = self.database.reads();
        let examined = Examined::of(query.clone(), C::Id, filter.is_met_by_candidates(), &reads).await?;
        let query = filter.matching(examined.within(query, C::Id));
        let rows = query.order_by_desc(C::Id).limit(page.rows()).all(&reads).await?;
        let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(examined.continued(Page::cut(items, page.limit, |delivery| delivery.id)))
    }
}

/// The condition that the type of a delivery's event matches a pattern.
fn of_type(pattern: &EventPattern) -> Expr {
    use deliveries::Column::EventType;

    match pattern.as_str().strip_suffix('*') {
        None => EventType.eq(pattern.as_str()),
        Some("") => Expr::val(true),
        Some(prefix) => {
            // Event types are ASCII. Not LIKE: types contain its wildcard `_`.
            let length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
            let start = Func::cust("substr").arg(EventType.into_expr()).arg(1).arg(length);
            Expr::expr(start).eq(prefix)
        }
    }
}

/// How deliveries name their event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbering {
    /// Their ids begin with its id.
    InIds,
    /// In a column of its own: those of the first edition.
    Apart,
}

/// The condition that a delivery is of this event.
pub(crate) fn of_event(event: EventId, numbering: Numbering) -> Condition {
    use deliveries::Column as C;

    let among = |ids: RangeInclusive<DeliveryId>| {
        Condition::all().add(C::Id.between(ids.start().uuid(), ids.end().uuid()))
    };
    match numbering {
        Numbering::InIds => among(event.deliveries()),
        // They were made right after the event. The range lets PostgreSQL leave out other partitions.
        Numbering::Apart => among(event.deliveries_within(MADE_WITHIN)).add(C::EventId.eq(event.uuid())),
    }
}

/// How far ids may be ahead of the clock.
const MADE_BEFORE: Duration = Duration::from_mins(1);

/// Within which time of its event's a delivery of the first edition was made: far longer than that took.
pub(crate) const MADE_WITHIN: Duration = Duration::from_hours(1);

/// Reads a delivery from its row.
pub(crate) fn read(row: &deliveries::Model) -> Result<Delivery, StoreError> {
    let id = DeliveryId::from_uuid(row.id);
    Ok(Delivery {
        id,
        event_id: row.event_id.map_or_else(|| id.event(), EventId::from_uuid),
        event_type: parse(&row.event_type, "deliveries", "event_type", id)?,
        subscriber: SubscriberId::from_uuid(row.subscriber_id),
        status: status(row.status, id)?,
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
