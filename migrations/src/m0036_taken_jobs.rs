//! Which jobs have come from a buffer outside the database, and the order of the rows in `outbox`.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0036_taken_jobs"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// Without such a buffer the table stays empty.
const SHARED: &str = "
-- Jobs in the tables `jobs` and `scheduled_jobs` that have come from the buffer, which may give them again.
CREATE TABLE taken_jobs (
    id {uuid} NOT NULL PRIMARY KEY
);
";

/// A row lives for as long as its job.
const POSTGRES: &str = "
-- The order in which rows were written. SQLite numbers the rows of each table, and calls the number the same.
ALTER TABLE outbox ADD COLUMN rowid bigint GENERATED ALWAYS AS IDENTITY;
CREATE INDEX outbox_by_rowid ON outbox (rowid);
ALTER TABLE taken_jobs SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
";
