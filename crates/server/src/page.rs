//! Lists, a page at a time.

use std::str::FromStr;

use postrider_core::id::{Id, Kind};
use postrider_store::{Page, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A part of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The items.
    pub(crate) data: Vec<T>,
    /// Where the next page starts: the `cursor` of the next request. Null on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A page of the store's, each item as it is shown.
    pub(crate) fn of<I, K: Kind>(page: Page<I, K>, show: impl Fn(I) -> T) -> Self {
        let next_cursor = page.next.map(|id| id.to_string());
        Self { data: page.items.into_iter().map(show).collect(), next_cursor }
    }

    /// A list that is always one page.
    pub(crate) fn whole(data: Vec<T>) -> Self {
        Self { data, next_cursor: None }
    }
}

/// How many items a page has: 1 to 250.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Limit(u16);

/// The text is no limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a limit is 1 to 250")]
pub(crate) struct LimitError;

impl TryFrom<String> for Limit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, LimitError> {
        match u16::from_str(&text) {
            Ok(limit @ 1..=250) => Ok(Self(limit)),
            _ => Err(LimitError),
        }
    }
}

/// Where a page starts: what an earlier page said.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String", bound = "")]
pub(crate) struct Cursor<K: Kind>(Id<K>);

/// The text is no cursor.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a cursor is the `next_cursor` of the page before, unchanged")]
pub(crate) struct CursorError;

impl<K: Kind> TryFrom<String> for Cursor<K> {
    type Error = CursorError;

    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse().map(Self).map_err(|_| CursorError)
    }
}

/// What the store is asked for.
pub(crate) fn request<K: Kind>(limit: Option<Limit>, cursor: Option<Cursor<K>>) -> PageRequest<K> {
    let default = PageRequest::<K>::default();
    PageRequest {
        limit: limit.map_or(default.limit, |Limit(limit)| limit),
        before: cursor.map(|Cursor(id)| id),
    }
}
