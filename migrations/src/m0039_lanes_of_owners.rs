//! An index of lanes by their owners that serves nothing else.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0039_lanes_of_owners"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, "", POSTGRES).await
    }
}

/// While there are few lanes, reading the whole of the old index by `id` alone cost as little as the primary key, and plans that were
/// made then stay. No such statement implies the new one's condition.
const POSTGRES: &str = "
CREATE INDEX lanes_of_owners ON lanes (owner, id) WHERE owner IS NOT NULL;
DROP INDEX lanes_by_owner;
";
