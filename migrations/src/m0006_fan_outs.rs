//! Events with many subscribers, whose deliveries are made step by step.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_fan_outs"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

const SHARED: &str = "
-- Events whose deliveries are not all made yet. A row is the promise to make them, and is removed with the last ones.
CREATE TABLE fan_outs (
    tenant        text NOT NULL,
    event_id      {uuid} NOT NULL,
    event_type    text NOT NULL,
    dispatched_at bigint NOT NULL,
    -- The last subscriber whose delivery is made, in the order of their ids, and the last one that gets one.
    reached       {uuid} NOT NULL,
    last          {uuid} NOT NULL,
    jobs_created  integer NOT NULL,
    trace         text,
    -- By the database's clock: when the event was stored, and when the last step was taken.
    created_at    bigint NOT NULL,
    touched_at    bigint NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
-- Whose turn it is: the tenants one after the other, and of each the event that has waited longest.
CREATE INDEX fan_outs_by_turn ON fan_outs (tenant, touched_at, event_id);

-- How many jobs the fan-out of the event has made in all. NULL until it is complete, and for events without one, which
-- have a job for each of their subscribers.
ALTER TABLE events ADD COLUMN jobs_created integer;
";

const POSTGRES: &str = "
ALTER TABLE fan_outs SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);
";
