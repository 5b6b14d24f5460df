//! Sessions of the web console.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0034_sessions"
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
CREATE TABLE sessions (
    -- The SHA-256 of the token that the browser holds.
    id         {bytes} NOT NULL PRIMARY KEY,
    -- Null for the key in the server's environment.
    key_id     {uuid},
    -- The SHA-256 of the key's text, so that a rotation ends the session as it ends the text.
    key_hash   {bytes} NOT NULL,
    -- The tenant of the key; null if it is an operator's.
    tenant     text,
    created_at bigint NOT NULL,
    -- To the minute.
    last_seen  bigint NOT NULL,
    expires_at bigint NOT NULL,
    address    text,
    user_agent text NOT NULL
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_key ON sessions (key_id, expires_at);
CREATE INDEX sessions_by_tenant ON sessions (tenant, expires_at);
";
