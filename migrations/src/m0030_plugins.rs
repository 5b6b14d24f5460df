//! Plugins, and which of them a subscriber uses.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0030_plugins"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Older programs leave the columns of subscribers NULL, and send to all of them what they sent before.
const SHARED: &str = "
CREATE TABLE plugins (
    name       text NOT NULL PRIMARY KEY,
    -- As the operator calls it.
    version    text NOT NULL,
    -- The SHA-256 of the module, in hexadecimal.
    checksum   text NOT NULL,
    -- The bytes of the module.
    size       bigint NOT NULL,
    module     {bytes} NOT NULL,
    -- When this version was added.
    created_at bigint NOT NULL
);
-- The configuration of the subscriber's plugin, a JSON object; NULL if it has none.
ALTER TABLE subscribers ADD COLUMN plugin text;
-- The name of the plugin.
ALTER TABLE subscribers ADD COLUMN plugin_name text;
-- Whether a plugin is used.
CREATE INDEX subscribers_by_plugin ON subscribers (plugin_name) WHERE plugin_name IS NOT NULL;
";
