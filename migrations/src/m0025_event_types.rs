//! Registered event types, of the deployment and of tenants.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0025_event_types"
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
CREATE TABLE event_types (
    -- Empty for those of the whole deployment.
    tenant      text NOT NULL,
    name        text NOT NULL,
    description text NOT NULL,
    -- What it is listed under.
    family      text NOT NULL,
    deprecated  boolean NOT NULL,
    -- JSON, as it was given.
    schema      text,
    example     text,
    -- 0: events are not compared with the schema, 1: those that do not match are counted, 2: they are refused.
    mode        smallint NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);
-- How often an event type, or what a tenant allows, was changed: one row. Servers look whether it has grown.
CREATE TABLE event_type_changes (
    id     smallint NOT NULL PRIMARY KEY,
    number bigint NOT NULL
);
INSERT INTO event_type_changes (id, number) VALUES (0, 0);
-- Whether events of types that are not registered are refused.
ALTER TABLE tenants ADD COLUMN only_registered boolean NOT NULL DEFAULT false;
";
