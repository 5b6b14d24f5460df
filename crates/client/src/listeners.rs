//! Listeners.

use http::Method;
use postrider_api::listener::{ListenerAnswerRequest, ListenerRequest, ListenerView};
use postrider_core::ListenerId;

use crate::{Client, ClientError, EventStream};

impl Client {
    /// Creates a listener.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn create_listener(&self, listener: &ListenerRequest) -> Result<ListenerView, ClientError> {
        self.post("/v1/listeners", listener).await
    }

    /// Follows the requests of a listener: `request` has a `ListenerDeliveryView` as data, and `end` says why the stream ends.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn listener_requests(&self, id: ListenerId) -> Result<EventStream, ClientError> {
        self.stream(&format!("/v1/listeners/{id}/requests"), None).await
    }

    /// Answers a request of a listener.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn answer_listener(
        &self,
        id: ListenerId,
        answer: &ListenerAnswerRequest,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(answer).map_err(ClientError::Request)?;
        let path = format!("/v1/listeners/{id}/answers");
        self.call(Method::POST, &path, body.into()).await.map(|_| ())
    }

    /// Ends a listener.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn end_listener(&self, id: ListenerId) -> Result<(), ClientError> {
        self.delete(&format!("/v1/listeners/{id}")).await
    }
}
