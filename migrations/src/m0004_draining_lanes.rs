//! Marks lanes whose subscriber receives nothing more, so that their jobs end without being claimed.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_draining_lanes"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Claims leave draining lanes out, and the worker's upkeep ends what waits in them. Older programs know nothing of the
/// mark, claim these jobs as any other, and end them one by one.
const SHARED: &str = "
ALTER TABLE lanes ADD COLUMN draining boolean NOT NULL DEFAULT false;
-- When the lane's owner was deleted. The lane is removed some time later.
ALTER TABLE lanes ADD COLUMN gone_at bigint;
CREATE INDEX lanes_draining ON lanes (id) WHERE draining;
CREATE INDEX lanes_gone ON lanes (gone_at) WHERE gone_at IS NOT NULL;
";
