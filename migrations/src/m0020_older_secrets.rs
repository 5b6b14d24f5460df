//! Secrets that were replaced before the previous one, and still sign.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0020_older_secrets"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// The secrets with the times until which they sign, newest first and sealed together, and the latest of these times. The
/// newest replaced secret stays in `previous_secret`, where the previous release looks for it.
const SHARED: &str = "
ALTER TABLE subscribers ADD COLUMN older_secrets {bytes};
ALTER TABLE subscribers ADD COLUMN older_secrets_until bigint;
";
