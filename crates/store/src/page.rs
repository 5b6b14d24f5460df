//! Lists, newest first, a page at a time.

use postrider_core::Timestamp;
use postrider_core::id::{Id, IdKind};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::StoreError;

/// Selects a page of a list.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<K: IdKind> {
    /// The most items that the page may hold: 1 to [`PageRequest::MAX_LIMIT`].
    pub limit: u16,
    /// Only items older than this one: the `next` of the page before.
    pub before: Option<Id<K>>,
}

impl<K: IdKind> Default for PageRequest<K> {
    fn default() -> Self {
        Self { limit: 50, before: None }
    }
}

impl<K: IdKind> PageRequest<K> {
    /// The most items that a page can hold.
    pub const MAX_LIMIT: u16 = 250;

    /// The number of rows to read: one more than the page holds, which shows whether another page follows.
    pub(crate) fn rows(&self) -> u64 {
        u64::from(self.limit) + 1
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T, K: IdKind> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// The `before` of the next page; `None` if this is the last one. A filter that matches few items may end a page before
    /// it is full.
    pub next: Option<Id<K>>,
}

impl<T, K: IdKind> Page<T, K> {
    /// A page of up to `limit` items, from [`PageRequest::rows`] items.
    pub(crate) fn cut(mut items: Vec<T>, limit: u16, id: impl Fn(&T) -> Id<K>) -> Self {
        let more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}

/// The smallest id that can be made at a moment.
pub(crate) fn first_at(moment: Timestamp) -> Uuid {
    // The first 48 bits of a UUIDv7 are Unix milliseconds.
    let millis = u128::try_from(moment.millis()).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(millis << 80)
}

/// The most rows that are examined for one page.
pub(crate) const MOST_EXAMINED: u64 = 20_000;

/// How far a page may look for items that match.
pub(crate) struct Examined(Option<Uuid>);

impl Examined {
    /// Looks for the end of what one page may examine. `candidates` are the rows that an index finds, from the page's first
    /// on, and `id` is the column that orders them. If all of them match (`all_match`), the page ends by itself.
    pub(crate) async fn of<E: EntityTrait>(
        candidates: Select<E>,
        id: E::Column,
        all_match: bool,
        connection: &impl ConnectionTrait,
    ) -> Result<Self, StoreError> {
        if all_match {
            return Ok(Self(None));
        }
        let last = candidates.select_only().column(id).order_by_desc(id).offset(MOST_EXAMINED - 1).limit(1);
        Ok(Self(last.into_tuple().one(connection).await?))
    }

    /// Narrows a query to the rows that the page may examine.
    pub(crate) fn within<E: EntityTrait>(&self, query: Select<E>, id: E::Column) -> Select<E> {
        use sea_orm::ColumnTrait as _;

        match self.0 {
            Some(last) => query.filter(id.gte(last)),
            None => query,
        }
    }

    /// Lets a page that is not full continue after the rows that it has examined.
    pub(crate) fn continued<T, K: IdKind>(&self, page: Page<T, K>) -> Page<T, K> {
        let next = page.next.or(self.0.map(Id::from_uuid));
        Page { next, ..page }
    }
}
