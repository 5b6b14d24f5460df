//! Room for each delivery to be updated in place.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_room_in_place"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, "", POSTGRES).await
    }
}

/// Deliveries that are created together end together, often in one transaction. PostgreSQL cannot remove old versions in
/// between, so a page needs as much free room as it has rows (PostgreSQL's manual, §73.7, "Heap-Only Tuples"). With a
/// fifth free, more than half of the updates went to another page, with a new entry in each index. Affects new pages.
const POSTGRES: &str = "ALTER TABLE deliveries SET (fillfactor = 50);";
