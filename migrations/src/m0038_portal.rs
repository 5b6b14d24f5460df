//! Links to the portal of subscribers' owners.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0038_portal"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

const SHARED: &str = "
-- Links that nobody has used yet.
CREATE TABLE portal_links (
    -- The SHA-256 of the link's secret.
    id          {bytes} NOT NULL PRIMARY KEY,
    tenant      text NOT NULL,
    -- The key that made the link, as in `sessions`.
    key_id      {uuid},
    key_hash    {bytes} NOT NULL,
    -- JSON: what the session may do, and how the portal looks.
    portal      text NOT NULL,
    -- How long the session lasts, in milliseconds.
    session_ttl bigint NOT NULL,
    expires_at  bigint NOT NULL
);
CREATE INDEX portal_links_by_expiry ON portal_links (expires_at);
CREATE INDEX portal_links_by_tenant ON portal_links (tenant, expires_at);
-- Of a session in the portal: as in `portal_links`.
ALTER TABLE sessions ADD COLUMN portal text;
";
