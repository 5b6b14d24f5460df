//! The live tail.

use postrider_api::tail::TailQuery;

use crate::query::with_query;
use crate::{Client, ClientError, EventStream};

impl Client {
    /// Follows what happens: `event`, `attempt` and `delivery` have their rows as data, `left_out` and `end` say why some are
    /// missing. `last_id` is the last id of a stream that has ended.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn tail(&self, query: &TailQuery, last_id: Option<&str>) -> Result<EventStream, ClientError> {
        self.stream(&with_query("/v1/tail", query)?, last_id).await
    }
}
