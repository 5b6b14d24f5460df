//! Lists, newest first, a page at a time.

use postrider_core::id::{Id, IdKind};

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<K: IdKind> {
    /// How many at most: 1 to 250.
    pub limit: u16,
    /// Only what is older than this one: the `next` of the page before.
    pub before: Option<Id<K>>,
}

impl<K: IdKind> Default for PageRequest<K> {
    fn default() -> Self {
        Self { limit: 50, before: None }
    }
}

impl<K: IdKind> PageRequest<K> {
    /// The most that a page can hold.
    pub const MAX_LIMIT: u16 = 250;
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T, K: IdKind> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Where the next page starts; none if this is the last.
    pub next: Option<Id<K>>,
}

impl<T, K: IdKind> Page<T, K> {
    /// From one more item than was asked for, if there are so many.
    pub(crate) fn cut(mut items: Vec<T>, limit: u16, id: impl Fn(&T) -> Id<K>) -> Self {
        let more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}
