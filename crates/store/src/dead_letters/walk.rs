//! Walking over dead letters, oldest first, some at a time.

use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_database::Transaction;
use sea_orm::prelude::Uuid;
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::DeadFilter;
use crate::StoreError;
use crate::entity::deliveries::{Column, Entity, Model};
use crate::page::MOST_EXAMINED;

/// Which dead letters are walked over, and from where on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Walk {
    /// The ones that the filter names, which are few.
    Named,
    /// All of a tenant, by their ids; those after this one.
    All(Uuid),
    /// All of a subscriber, by the time of their death; those from this one on.
    OfSubscriber(SubscriberId, i64),
}

/// The last dead letter that one statement examines.
#[derive(Clone, Copy, Debug)]
pub(super) enum WalkEnd {
    At(Uuid),
    DiedAt(i64),
}

impl Walk {
    /// A walk over all dead letters that the filter can select.
    pub(super) fn of(filter: &DeadFilter) -> Self {
        match (&filter.ids, filter.subscriber) {
            (Some(_), _) => Self::Named,
            (None, Some(subscriber)) => {
                Self::OfSubscriber(subscriber, filter.since.map_or(i64::MIN, Timestamp::millis))
            }
            (None, None) => Self::All(Uuid::nil()),
        }
    }

    /// Finds the last dead letter that the next statement may examine. `None` if it may examine all that are left.
    pub(super) async fn end(
        self,
        tenant: &TenantId,
        transaction: &Transaction,
    ) -> Result<Option<WalkEnd>, StoreError> {
        let filter = match self {
            Self::Named => return Ok(None),
            Self::All(_) => DeadFilter::default(),
            Self::OfSubscriber(subscriber, _) => {
                DeadFilter { subscriber: Some(subscriber), ..DeadFilter::default() }
            }
        };
        let last = self.from(self.query(&filter, tenant)).select_only().offset(MOST_EXAMINED - 1).limit(1);
        Ok(match self {
            Self::OfSubscriber(..) => {
                last.column(Column::DiedAt).into_tuple().one(transaction).await?.map(WalkEnd::DiedAt)
            }
            _ => last.column(Column::Id).into_tuple().one(transaction).await?.map(WalkEnd::At),
        })
    }

    /// Selects dead letters in the way that suits the walk.
    pub(super) fn query(self, filter: &DeadFilter, tenant: &TenantId) -> Select<Entity> {
        match self {
            Self::OfSubscriber(..) => filter.query_by_subscriber(tenant),
            _ => filter.query(tenant),
        }
    }

    /// Narrows a query to what is left until `end`, in the order of the walk.
    pub(super) fn until(self, end: Option<WalkEnd>, query: Select<Entity>) -> Select<Entity> {
        match end {
            Some(WalkEnd::At(last)) => self.from(query).filter(Column::Id.lte(last)),
            Some(WalkEnd::DiedAt(last)) => self.from(query).filter(Column::DiedAt.lte(last)),
            None => self.from(query),
        }
    }

    fn from(self, query: Select<Entity>) -> Select<Entity> {
        match self {
            Self::Named => query.order_by_asc(Column::Id),
            Self::All(after) => query.filter(Column::Id.gt(after)).order_by_asc(Column::Id),
            Self::OfSubscriber(_, from) => {
                let query = query.filter(Column::DiedAt.gte(from));
                query.order_by_asc(Column::SubscriberId).order_by_asc(Column::DiedAt)
            }
        }
    }

    /// Goes on after all that was examined.
    pub(super) fn go_on(&mut self, end: WalkEnd) {
        match (self, end) {
            (Self::All(after), WalkEnd::At(last)) => *after = last,
            // Others may have died at the same moment. More than one statement examines never do.
            (Self::OfSubscriber(_, from), WalkEnd::DiedAt(last)) => {
                *from = if last > *from { last } else { last.saturating_add(1) };
            }
            _ => {}
        }
    }

    /// Goes on after the last dead letter that was requeued.
    pub(super) fn go_on_after(&mut self, last: Option<&Model>) {
        match (self, last) {
            (Self::All(after), Some(last)) => *after = last.id,
            (Self::OfSubscriber(_, from), Some(Model { died_at: Some(died_at), .. })) => *from = *died_at,
            _ => {}
        }
    }
}
