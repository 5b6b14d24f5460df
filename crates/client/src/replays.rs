//! Replays.

use postrider_api::replay::{ReplayEstimateView, ReplayList, ReplayRequest, ReplayView};
use postrider_core::ReplayId;
use serde_json::json;

use crate::query::with_query;
use crate::{Client, ClientError};

impl Client {
    /// Starts a replay.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn start_replay(&self, replay: &ReplayRequest) -> Result<ReplayView, ClientError> {
        self.post("/v1/replays", &ReplayRequest { dry_run: false, ..replay.clone() }).await
    }

    /// Counts what a replay would deliver.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn estimate_replay(&self, replay: &ReplayRequest) -> Result<ReplayEstimateView, ClientError> {
        self.post("/v1/replays", &ReplayRequest { dry_run: true, ..replay.clone() }).await
    }

    /// Returns a page of replays, newest first; `cursor` is the `next_cursor` of the page before.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn replays(&self, cursor: Option<&str>) -> Result<ReplayList, ClientError> {
        self.get(&with_query("/v1/replays", &json!({"cursor": cursor}))?).await
    }

    /// Returns a replay.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn replay(&self, id: ReplayId) -> Result<ReplayView, ClientError> {
        self.get(&format!("/v1/replays/{id}")).await
    }

    /// Pauses a replay.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, above all if it is paused already or over.
    pub async fn pause_replay(&self, id: ReplayId) -> Result<ReplayView, ClientError> {
        self.post_nothing(&format!("/v1/replays/{id}/pause")).await
    }

    /// Resumes a paused replay.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, above all if it is not paused.
    pub async fn resume_replay(&self, id: ReplayId) -> Result<ReplayView, ClientError> {
        self.post_nothing(&format!("/v1/replays/{id}/resume")).await
    }

    /// Cancels a replay.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, above all if it is over.
    pub async fn cancel_replay(&self, id: ReplayId) -> Result<ReplayView, ClientError> {
        self.post_nothing(&format!("/v1/replays/{id}/cancel")).await
    }
}
