//! Lists, one page at a time.

use postrider_api::{Cursor, Limit, List};
use postrider_core::id::IdKind;
use postrider_store::{Page, PageRequest};

/// The page that a request asks the store for.
pub(crate) fn request<K: IdKind>(limit: Option<Limit>, cursor: Option<Cursor<K>>) -> PageRequest<K> {
    let default = PageRequest::<K>::default();
    PageRequest { limit: limit.map_or(default.limit, Limit::items), before: cursor.map(|Cursor(id)| id) }
}

/// A page of the store as the API shows it.
pub(crate) fn list<I, T, K: IdKind>(page: Page<I, K>, show: impl Fn(I) -> T) -> List<T> {
    let next_cursor = page.next.map(|id| id.to_string());
    List { data: page.items.into_iter().map(show).collect(), next_cursor }
}
