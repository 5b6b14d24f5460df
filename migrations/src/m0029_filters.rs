//! The filters and transforms of subscribers.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0029_filters"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Older programs send every event that matches by type and channels, with the data as it is.
const SHARED: &str = "
-- A CEL expression. NULL: every event.
ALTER TABLE subscribers ADD COLUMN filter text;
-- The first 16 bytes of its SHA-256, by which dispatchers know it.
ALTER TABLE subscribers ADD COLUMN filter_id {uuid};
-- A JSON object. NULL: the data as it is.
ALTER TABLE subscribers ADD COLUMN transform text;
";
