//! Finding the members of a set, oldest first, a bounded number of rows at a time.

use std::time::Duration;

use postrider_core::replay::ReplayMode;
use postrider_core::{DeliveryId, DeliveryStatus, EventId, SubscriberId, TenantId, Timestamp};
use sea_orm::sea_query::{self, Expr};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::deliveries::{Delivery, DeliveryFilter, read};
use crate::entity::deliveries;
use crate::intake::Sift;
use crate::{Store, StoreError};

/// How many deliveries one step examines.
const EXAMINED: u64 = 5_000;

/// By how much the times in ids may differ from those in columns: clocks of several machines, and deliveries of the first
/// edition, which were made after their events.
const SLACK: Duration = Duration::from_hours(1);

/// A walk over all that a replay may concern.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) tenant: TenantId,
    pub(super) mode: ReplayMode,
    pub(super) filter: DeliveryFilter,
    /// What ends or is dispatched later does not belong to the set.
    pub(super) frozen_at: Timestamp,
    /// The last delivery or event that was examined.
    pub(super) reached: Uuid,
    /// The last subscriber that was examined of the event after that one; nil if none was.
    pub(super) within: Uuid,
}

/// A member of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// `None` if the event has no delivery to the subscriber.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) event: EventId,
    pub(super) subscriber: SubscriberId,
    /// When the event was dispatched.
    pub(super) at: Timestamp,
    pub(super) succeeded: bool,
}

/// A part of a walk.
pub(super) struct Part {
    pub(super) members: Vec<Member>,
    /// Whether the walk has come to its end.
    pub(super) is_last: bool,
}

impl Walk {
    pub(super) fn new(
        tenant: &TenantId,
        mode: ReplayMode,
        filter: &DeliveryFilter,
        frozen_at: Timestamp,
    ) -> Self {
        let first = filter.since.map_or(Uuid::nil(), |since| DeliveryId::first_at(since - SLACK).uuid());
        Self {
            tenant: tenant.clone(),
            mode,
            filter: filter.clone(),
            frozen_at,
            reached: filter.event_id.map_or(first, |event| just_before(event.uuid()).max(first)),
            within: Uuid::nil(),
        }
    }

    /// The last id that can belong to the set.
    pub(super) fn last(&self) -> Uuid {
        let until = self.filter.until.unwrap_or(self.frozen_at).min(self.frozen_at);
        let last = DeliveryId::first_at(until + SLACK).uuid();
        let of_event = |event: EventId| match (self.mode, event.numbers_deliveries()) {
            (ReplayMode::Missed, _) => event.uuid(),
            (_, true) => event.deliveries().end().uuid(),
            (_, false) => event.deliveries_within(SLACK).end().uuid(),
        };
        self.filter.event_id.map_or(last, |event| of_event(event).min(last))
    }

    /// Whether a delivery belongs to the set.
    fn has(&self, delivery: &Delivery) -> bool {
        let is_wanted = match self.mode {
            ReplayMode::Dead => delivery.status == DeliveryStatus::Dead,
            ReplayMode::All | ReplayMode::Missed => delivery.status != DeliveryStatus::Pending,
            ReplayMode::Cancel => {
                delivery.status == DeliveryStatus::Pending && delivery.created_at <= self.frozen_at
            }
        };
        is_wanted && self.was_ended(delivery) && self.filter.matches(delivery)
    }

    /// Whether a delivery had ended when the set was frozen, and was not restarted since.
    pub(super) fn was_ended(&self, delivery: &Delivery) -> bool {
        delivery.ended_at.is_none_or(|ended_at| ended_at <= self.frozen_at)
    }
}

impl Store {
    /// Examines the next rows of a walk. `filters` decide about missed events.
    pub(super) async fn walk_on(
        &self,
        connection: &impl ConnectionTrait,
        walk: &mut Walk,
        filters: &dyn Sift,
    ) -> Result<Part, StoreError> {
        if walk.mode == ReplayMode::Missed {
            return self.walk_over_events(connection, walk, filters).await;
        }
        let candidates = candidates(connection, walk).await?;
        let is_last = (candidates.len() as u64) < EXAMINED;
        if let Some(last) = candidates.last() {
            walk.reached = last.id.uuid();
        }
        let member = |delivery: &Delivery| Member {
            delivery: Some(delivery.id),
            event: delivery.event_id,
            subscriber: delivery.subscriber,
            at: delivery.created_at,
            succeeded: delivery.status == DeliveryStatus::Succeeded,
        };
        let members = candidates.iter().filter(|delivery| walk.has(delivery)).map(member).collect();
        Ok(Part { members, is_last })
    }
}

async fn candidates(connection: &impl ConnectionTrait, walk: &Walk) -> Result<Vec<Delivery>, StoreError> {
    use deliveries::Column as C;

    let mut query = deliveries::Entity::find();
    let tenant = walk.tenant.as_str();
    query = match (walk.mode, walk.filter.subscriber) {
        // Makes the planner use the partial index on dead letters.
        (ReplayMode::Dead, _) => query.filter(C::Tenant.eq(tenant)).filter(C::DiedAt.is_not_null()),
        // PostgreSQL cannot use an index that begins with the tenant, which has the deliveries to all subscribers.
        (_, Some(subscriber)) => {
            let by_tenant = Expr::cust("coalesce(deliveries.tenant, '')");
            query
                .filter(sea_query::ExprTrait::eq(by_tenant, tenant))
                .filter(C::SubscriberId.eq(subscriber.uuid()))
        }
        (_, None) => query.filter(C::Tenant.eq(tenant)),
    };
    let query = query.filter(C::Id.gt(walk.reached)).filter(C::Id.lte(walk.last()));
    let rows = query.order_by_asc(C::Id).limit(EXAMINED).all(connection).await?;
    rows.iter().map(read).collect()
}

/// The id before this one.
pub(super) fn just_before(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}
