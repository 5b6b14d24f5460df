//! The running workers, and when a lane was last served.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0012_workers"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = match manager.get_connection().get_database_backend() {
            // Written every few seconds by each worker, and of no use after a crash of the database: not worth a log.
            DbBackend::Postgres => "UNLOGGED TABLE",
            _ => "TABLE",
        };
        crate::schema::apply(manager, &SHARED.replace("{table}", table), POSTGRES).await
    }
}

const SHARED: &str = "
-- The running workers, each of which refreshes its row every few seconds.
CREATE {table} workers (
    -- Ascending by when they started.
    id         {uuid} PRIMARY KEY,
    host       text NOT NULL,
    version    text NOT NULL,
    started_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    -- It has stopped, or cannot reach the database, if it has not checked in again by then.
    lapses_at  bigint NOT NULL,
    in_flight  integer NOT NULL,
    -- Nearly all its worker slots are taken.
    busy       boolean NOT NULL
);

-- When a claim last took jobs of the lane.
ALTER TABLE lanes ADD COLUMN served_at bigint NOT NULL DEFAULT 0;
-- The worker that has all of the lane's claimed jobs, if one has.
ALTER TABLE lanes ADD COLUMN holder {uuid};
";

const POSTGRES: &str = "ALTER TABLE workers SET (fillfactor = 50)";
