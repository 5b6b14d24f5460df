//! What is on its way to a queue outside the database.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0033_outbox"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// Without a queue outside the database these tables stay empty. Older programs know of none.
const SHARED: &str = "
-- Jobs that a transaction has written and that the queue may not have yet.
CREATE TABLE outbox (
    -- The id of the first of its jobs.
    id         {uuid} NOT NULL PRIMARY KEY,
    created_at bigint NOT NULL,
    -- JSON: a list of jobs.
    jobs       {bytes} NOT NULL
);
-- Lanes that a transaction has changed and that the queue may not know as they are now.
CREATE TABLE changed_lanes (
    lane    {uuid} NOT NULL PRIMARY KEY,
    version bigint NOT NULL
);
-- Grows with each change of the lane's limits, pauses and holds that such a queue has to be told. Not called `version`, which
-- older programs call the row's place.
ALTER TABLE lanes ADD COLUMN state_version bigint NOT NULL DEFAULT 0;
-- The queue outside the database, if there has been one.
CREATE TABLE remote_queue (
    one          integer NOT NULL PRIMARY KEY,
    -- The marker that the queue keeps for as long as it keeps its jobs.
    marker       {uuid} NOT NULL,
    -- The run of its server that has been filled.
    run          text NOT NULL,
    -- While the queue is being filled: when that began, the run that is, and the lane and the delivery after which it goes on.
    since        bigint,
    filling      text,
    after_lane   {uuid},
    after_tenant text,
    after_id     {uuid},
    -- How many jobs were offered, and how many of them the queue did not have.
    offered      bigint NOT NULL DEFAULT 0,
    missing      bigint NOT NULL DEFAULT 0
);
";

/// Compressing them would cost more than writing them.
const POSTGRES: &str = "
ALTER TABLE outbox ALTER COLUMN jobs SET STORAGE EXTERNAL;
";
