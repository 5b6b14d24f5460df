//! API keys.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0018_keys"
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
CREATE TABLE api_keys (
    id           {uuid} NOT NULL PRIMARY KEY,
    -- 0: a tenant's, 1: an operator's, which has no tenant.
    kind         smallint NOT NULL,
    tenant       text,
    name         text NOT NULL,
    -- The SHA-256 of the key's text.
    hash         {bytes} NOT NULL,
    -- Earlier hashes that are still accepted, as JSON: [[hexadecimal digits, until when in Unix milliseconds], ...].
    previous     text NOT NULL DEFAULT '[]',
    -- Words, separated by spaces.
    scopes       text NOT NULL,
    -- A JSON object.
    limits       text NOT NULL DEFAULT '{}',
    created_at   bigint NOT NULL,
    -- The id of the key that made it, or how else it was made.
    created_by   text NOT NULL,
    expires_at   bigint,
    revoked_at   bigint,
    -- To the minute.
    last_used_at bigint,
    CHECK ((kind = 1) = (tenant IS NULL))
);
CREATE INDEX api_keys_of_tenants ON api_keys (tenant, id);
CREATE INDEX api_keys_of_operators ON api_keys (id) WHERE kind = 1;
";
