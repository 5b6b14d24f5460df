//! Lists of the API, page by page.

use postrider_client::{Client, ClientError, encoded};
use postrider_program::StartError;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::connection::failed;

/// The most items that the API returns at once.
const PAGE: u64 = 250;

/// A page whose items are as the server wrote them.
#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Which items to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    All,
    First(u64),
}

/// Reads the items of a list, whose path may have a query, and calls `take` with each page. Returns whether there are more.
pub(crate) async fn each_page(
    client: &Client,
    path: &str,
    span: Span,
    mut take: impl FnMut(&[Box<RawValue>]) -> Result<(), StartError>,
) -> Result<bool, StartError> {
    let mut pages = Pages::new(path, span);
    while let Some(page) = pages.next(client).await.map_err(failed)? {
        take(&page)?;
    }
    Ok(pages.more)
}

/// Reads the first items of a list, at most `most`, and calls `take` with each page.
pub(crate) async fn pages(
    client: &Client,
    path: &str,
    most: u64,
    mut take: impl FnMut(&[Box<RawValue>]),
) -> Result<(), ClientError> {
    let mut pages = Pages::new(path, Span::First(most));
    while let Some(page) = pages.next(client).await? {
        take(&page);
    }
    Ok(())
}

/// A list that is being read.
struct Pages<'a> {
    path: &'a str,
    left: u64,
    cursor: String,
    /// Whether the list has more items than were read.
    more: bool,
}

impl<'a> Pages<'a> {
    fn new(path: &'a str, span: Span) -> Self {
        let left = match span {
            Span::All => u64::MAX,
            Span::First(items) => items,
        };
        Self { path, left, cursor: String::new(), more: true }
    }

    /// Returns the next page; `None` after the last one.
    async fn next(&mut self, client: &Client) -> Result<Option<Vec<Box<RawValue>>>, ClientError> {
        if !self.more || self.left == 0 {
            return Ok(None);
        }
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let page = format!("{}{separator}limit={}{}", self.path, self.left.min(PAGE), self.cursor);
        let Page { data, next_cursor } = client.get(&page).await?;
        self.left = self.left.saturating_sub(data.len() as u64);
        self.more = next_cursor.is_some();
        self.cursor = next_cursor.map_or_else(String::new, |next| format!("&cursor={}", encoded(&next)));
        Ok(Some(data))
    }
}

/// Reads all items of a list.
pub(crate) async fn all(client: &Client, path: &str) -> Result<Vec<Box<RawValue>>, StartError> {
    let mut items = Vec::new();
    each_page(client, path, Span::All, |page| {
        items.extend_from_slice(page);
        Ok(())
    })
    .await?;
    Ok(items)
}
