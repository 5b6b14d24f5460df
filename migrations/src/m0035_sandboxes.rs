//! Receivers inside Postrider: sandboxes with what they received, and listeners with what is handed to them.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0035_sandboxes"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// Older workers know of none of them, and send to these URLs as to any other.
const SHARED: &str = "
CREATE TABLE sandboxes (
    tenant        text NOT NULL,
    id            {uuid} NOT NULL,
    -- The random end of its URL.
    token         text NOT NULL,
    url           text NOT NULL,
    -- JSON.
    script        text NOT NULL,
    -- How many requests it has received, and so the number of the last one.
    received      bigint NOT NULL DEFAULT 0,
    created_at    bigint NOT NULL,
    -- It answers 410 from then on, and is removed an hour later.
    expires_at    bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX sandboxes_by_token ON sandboxes (token);
CREATE INDEX sandboxes_by_end ON sandboxes (expires_at);

CREATE TABLE sandbox_requests (
    tenant        text NOT NULL,
    sandbox_id    {uuid} NOT NULL,
    number        bigint NOT NULL,
    received_at   bigint NOT NULL,
    method        text NOT NULL,
    -- JSON: pairs of names and values.
    headers       text NOT NULL,
    -- The first bytes of the body, and the size of all of it.
    body          {bytes} NOT NULL,
    body_size     bigint NOT NULL,
    -- JSON: each signature, and why it does not match.
    signatures    text NOT NULL,
    -- JSON: how the sandbox answered.
    answer        text NOT NULL,
    PRIMARY KEY (tenant, sandbox_id, number)
);

CREATE TABLE listeners (
    tenant        text NOT NULL,
    id            {uuid} NOT NULL,
    token         text NOT NULL,
    -- NULL until its subscriber is there. That has the URL that ends in the token.
    subscriber_id {uuid},
    -- The stream that takes its requests; an older one ends.
    stream        {uuid},
    created_at    bigint NOT NULL,
    -- It and its subscriber are removed then.
    lease_until   bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX listeners_by_token ON listeners (token);
CREATE INDEX listeners_by_end ON listeners (lease_until);

-- Attempts that wait for a listener. A worker writes a row, and removes it when its attempt ends.
CREATE TABLE handovers (
    tenant        text NOT NULL,
    listener_id   {uuid} NOT NULL,
    id            {uuid} NOT NULL,
    -- JSON.
    head          text NOT NULL,
    body          {bytes} NOT NULL,
    created_at    bigint NOT NULL,
    -- The attempt ends then.
    wait_until    bigint NOT NULL,
    taken_at      bigint,
    -- JSON.
    answer        text,
    PRIMARY KEY (tenant, listener_id, id)
);
CREATE INDEX handovers_by_end ON handovers (wait_until);
";

/// They are updated often and are short.
const POSTGRES: &str = "
ALTER TABLE sandboxes SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE listeners SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE handovers SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
";
