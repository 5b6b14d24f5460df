//! Lists, newest first, a page at a time.

use postrider_core::id::{Id, IdKind};

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
    /// The `before` of the next page; `None` if this is the last one.
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
