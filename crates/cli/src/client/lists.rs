//! Lists of the API, page by page.

use postrider_client::{Client, encoded};
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
    let mut left = match span {
        Span::All => u64::MAX,
        Span::First(items) => items,
    };
    let mut cursor = String::new();
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = format!("{path}{separator}limit={}{cursor}", left.min(PAGE));
        let Page { data, next_cursor } = client.get(&page).await.map_err(failed)?;
        take(&data)?;
        left = left.saturating_sub(data.len() as u64);
        match next_cursor {
            Some(next) if left > 0 => cursor = format!("&cursor={}", encoded(&next)),
            next => return Ok(next.is_some()),
        }
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
