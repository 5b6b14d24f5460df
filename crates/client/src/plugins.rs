//! Plugins of the deployment.

use postrider_api::plugin::{PluginList, PluginRequest, PluginView};

use crate::{Client, ClientError, encoded};

impl Client {
    /// Returns all plugins.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn plugins(&self) -> Result<PluginList, ClientError> {
        self.get("/v1/plugins").await
    }

    /// Installs a plugin, or replaces the one of its name.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn install_plugin(&self, plugin: &PluginRequest) -> Result<PluginView, ClientError> {
        self.post("/v1/plugins", plugin).await
    }

    /// Removes a plugin.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does, above all if there is no such plugin or a subscriber uses it.
    pub async fn remove_plugin(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/v1/plugins/{}", encoded(name))).await
    }
}
