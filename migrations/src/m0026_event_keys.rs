//! The idempotency keys of events, with the events.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0026_event_keys"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Events are found by their keys through `idempotency_keys`, for as long as these are kept.
const SHARED: &str = "
ALTER TABLE events ADD COLUMN idempotency_key text;
";
