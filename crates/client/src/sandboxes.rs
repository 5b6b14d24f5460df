//! Sandboxes.

use postrider_api::sandbox::{SandboxRequest, SandboxRequestList, SandboxRequestsQuery, SandboxView};
use postrider_core::SandboxId;

use crate::query::with_query;
use crate::{Client, ClientError};

impl Client {
    /// Creates a sandbox.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn create_sandbox(&self, sandbox: &SandboxRequest) -> Result<SandboxView, ClientError> {
        self.post("/v1/sandboxes", sandbox).await
    }

    /// Lists what a sandbox has received, waits for it, and judges it.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, and if something does not hold that the query expects.
    pub async fn sandbox_requests(
        &self,
        id: SandboxId,
        query: &SandboxRequestsQuery,
    ) -> Result<SandboxRequestList, ClientError> {
        self.get(&with_query(&format!("/v1/sandboxes/{id}/requests"), query)?).await
    }

    /// Deletes a sandbox.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn delete_sandbox(&self, id: SandboxId) -> Result<(), ClientError> {
        self.delete(&format!("/v1/sandboxes/{id}")).await
    }
}
