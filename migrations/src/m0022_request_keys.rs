//! Requests that carry an idempotency key, and their answers.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0022_request_keys"
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
CREATE TABLE request_keys (
    tenant      text NOT NULL,
    -- The id of the key that the request shows, or another word.
    actor       text NOT NULL,
    key         text NOT NULL,
    -- The SHA-256 of the request.
    request     {bytes} NOT NULL,
    -- Who carries it out, until when nobody else does, and whether its change is committed.
    token       {uuid} NOT NULL,
    lease_until bigint NOT NULL,
    done        boolean NOT NULL DEFAULT false,
    -- Sealed.
    answer      {bytes},
    created_at  bigint NOT NULL,
    PRIMARY KEY (tenant, actor, key)
);
CREATE INDEX request_keys_by_age ON request_keys (created_at);
-- Whether an operator has a key that works.
CREATE INDEX api_keys_by_expiry_of_operators ON api_keys (coalesce(expires_at, 9223372036854775807))
    WHERE kind = 1 AND revoked_at IS NULL;
";
