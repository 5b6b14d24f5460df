//! Lets old idempotency keys be found, and ends lanes and health of subscribers that were deleted.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0010_ends"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let now = match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => "(extract(epoch FROM statement_timestamp()) * 1000)::bigint",
            _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        };
        crate::schema::apply(manager, &SHARED.replace("{now}", now), "").await
    }
}

const SHARED: &str = "
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
-- Retrying a delivery of a deleted subscriber made a lane that nothing removed.
UPDATE lanes SET draining = true, gone_at = {now}
    WHERE gone_at IS NULL AND NOT EXISTS (SELECT 1 FROM subscribers WHERE subscribers.id = lanes.id);
DELETE FROM health
    WHERE NOT EXISTS (SELECT 1 FROM subscribers WHERE subscribers.id = health.subscriber_id AND active);
";
