//! Holds of lanes: of a paused subscriber, and of a tenant that is not active.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0021_holds"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// A held lane is shut for good, so the searches of older programs step over it. They still claim from one that they have
/// just heard of.
const SHARED: &str = "
-- Claims take nothing from the lane: for its own sake, and because its owner's lanes are all held.
ALTER TABLE lanes ADD COLUMN held boolean NOT NULL DEFAULT false;
ALTER TABLE lanes ADD COLUMN owner_held boolean NOT NULL DEFAULT false;
-- Since when nothing is delivered to the subscriber although it receives events.
ALTER TABLE subscribers ADD COLUMN paused_at bigint;
ALTER TABLE tenants ADD COLUMN active boolean NOT NULL DEFAULT true;
-- While the lanes of the tenant are being held or released: the subscriber after which that goes on.
ALTER TABLE tenants ADD COLUMN holding_after {uuid};
CREATE INDEX tenants_inactive ON tenants (id) WHERE NOT active;
CREATE INDEX tenants_holding ON tenants (id) WHERE holding_after IS NOT NULL;
";
