//! Room for each delivery to be updated in place.

use sea_orm_migration::prelude::*;

/// See the module.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_room_in_place"
    }
}

// The trait elides the lifetime, and its implementations must.
#[allow(elided_lifetimes_in_paths)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, "", POSTGRES).await
    }
}

/// Deliveries that were made together end together, often in one transaction: no old version can be cleared away in
/// between, and a page needs as much room again as it has rows (PostgreSQL's manual, §73.7, "Heap-Only Tuples"). With a
/// fifth of it free, more than half of the updates went elsewhere, with a new entry in each index. Counts for new pages.
const POSTGRES: &str = "ALTER TABLE deliveries SET (fillfactor = 50);";
