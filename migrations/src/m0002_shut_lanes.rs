//! Which lanes are shut, so that a claim steps over any number of them at once.

use sea_orm_migration::prelude::*;

/// See the module.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_shut_lanes"
    }
}

// The trait elides the lifetime, and its implementations must.
#[allow(elided_lifetimes_in_paths)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// A lane is shut from its pause on until somebody notices that the pause is over. That it is shut is a hint for those
/// who look for open lanes; whether it is paused, `paused_until` alone says, which is all that older programs know.
const SHARED: &str = "
ALTER TABLE lanes ADD COLUMN shut boolean NOT NULL DEFAULT false;
CREATE INDEX lanes_open ON lanes (id) WHERE NOT shut;
CREATE INDEX lanes_shut ON lanes (paused_until) WHERE shut;
";
