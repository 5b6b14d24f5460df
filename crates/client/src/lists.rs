//! Finding subscribers and deliveries, and explaining events.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postrider_api::delivery::{DeliveriesQuery, DeliveryList};
use postrider_api::explain::{ExplainList, ExplainQuery};
use postrider_api::subscriber::{SubscriberList, SubscribersQuery};

use crate::query::with_query;
use crate::{Client, ClientError};

impl Client {
    /// Returns a page of subscribers.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn subscribers(&self, query: &SubscribersQuery) -> Result<SubscriberList, ClientError> {
        self.get(&with_query("/v1/subscribers", query)?).await
    }

    /// Returns a page of deliveries.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn deliveries(&self, query: &DeliveriesQuery) -> Result<DeliveryList, ClientError> {
        self.get(&with_query("/v1/deliveries", query)?).await
    }

    /// Returns which subscribers got an event, and why others did not.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn explain(&self, event: &str, query: &ExplainQuery) -> Result<ExplainList, ClientError> {
        let event = utf8_percent_encode(event, NON_ALPHANUMERIC);
        self.get(&with_query(&format!("/v1/events/{event}/explain"), query)?).await
    }
}
