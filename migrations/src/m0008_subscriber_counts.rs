//! Counts of subscribers, so that no statistic walks over all of them, and an index of the open circuit breakers.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0008_subscriber_counts"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// A count of one row may be negative; the sum over a tenant's rows is exact.
const SHARED: &str = "
CREATE TABLE subscriber_counts (
    -- Empty for all tenants together.
    tenant text NOT NULL,
    -- Part of the subscriber's id, so that changes of different subscribers seldom wait for each other.
    shard  smallint NOT NULL,
    total  bigint NOT NULL,
    active bigint NOT NULL,
    PRIMARY KEY (tenant, shard)
);
INSERT INTO subscriber_counts (tenant, shard, total, active)
    SELECT tenant, 0, count(*), count(*) FILTER (WHERE active) FROM subscribers GROUP BY tenant;
INSERT INTO subscriber_counts (tenant, shard, total, active)
    SELECT '', 0, count(*), count(*) FILTER (WHERE active) FROM subscribers;
CREATE INDEX health_open ON health (open_until) WHERE open_until IS NOT NULL;
";

const POSTGRES: &str = "
ALTER TABLE subscriber_counts SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
";
