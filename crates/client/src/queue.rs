//! The queue and its workers.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postrider_api::queue::{LaneList, LanesQuery, QueueStatusView, WorkerList};
use postrider_api::subscriber::SubscriberView;
use serde_json::json;

use crate::query::with_query;
use crate::{Client, ClientError};

impl Client {
    /// Returns the workers that run, and those that have just fallen silent.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn workers(&self) -> Result<WorkerList, ClientError> {
        self.get("/v1/workers").await
    }

    /// Returns the jobs by state, and the longest wait.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn queue(&self) -> Result<QueueStatusView, ClientError> {
        self.get("/v1/queue").await
    }

    /// Returns a page of the subscribers for which deliveries wait.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn lanes(&self, query: &LanesQuery) -> Result<LaneList, ClientError> {
        self.get(&with_query("/v1/queue/lanes", query)?).await
    }

    /// Pauses a subscriber, which is named by its id or its uid.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn pause_subscriber(&self, subscriber: &str) -> Result<SubscriberView, ClientError> {
        let subscriber = utf8_percent_encode(subscriber, NON_ALPHANUMERIC);
        self.post(&format!("/v1/subscribers/{subscriber}/pause"), &json!({})).await
    }

    /// Ends the pause of a subscriber, which is named by its id or its uid.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn resume_subscriber(&self, subscriber: &str) -> Result<SubscriberView, ClientError> {
        let subscriber = utf8_percent_encode(subscriber, NON_ALPHANUMERIC);
        self.post(&format!("/v1/subscribers/{subscriber}/resume"), &json!({})).await
    }
}
