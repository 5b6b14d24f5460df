//! Marks paused lanes as shut, so that a claim steps over any number of them at once.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_shut_lanes"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// A lane is shut from the beginning of its pause until `promote` notices that the pause is over. The flag is a hint for
/// claims, which look for open lanes. Whether a lane is paused depends on `paused_until` alone, which is all that older
/// programs know.
const SHARED: &str = "
ALTER TABLE lanes ADD COLUMN shut boolean NOT NULL DEFAULT false;
CREATE INDEX lanes_open ON lanes (id) WHERE NOT shut;
CREATE INDEX lanes_shut ON lanes (paused_until) WHERE shut;
";
