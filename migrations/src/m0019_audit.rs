//! The audit trail: who changed what, and when.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0019_audit"
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
CREATE TABLE audit (
    -- `operator` for what concerns tenants and the keys of operators.
    tenant        text NOT NULL,
    -- Begins with the time.
    id            {uuid} NOT NULL,
    created_at    bigint NOT NULL,
    -- The id of a key, or `environment`; and its name then.
    actor         text NOT NULL,
    actor_name    text NOT NULL,
    address       text,
    request_id    text,
    action        text NOT NULL,
    target        text NOT NULL,
    -- JSON. NULL if it did not exist, or does not any more.
    before_change text,
    after_change  text,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX audit_by_age ON audit (id);
";
