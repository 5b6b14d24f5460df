//! The egress proxies of tenants.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0027_egress_proxies"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Older workers send the deliveries of all tenants on the same way.
const SHARED: &str = "
-- A URL, encrypted. NULL: as in the rest of the deployment.
ALTER TABLE tenants ADD COLUMN egress_proxy {bytes};
CREATE INDEX tenants_with_proxies ON tenants (id) WHERE egress_proxy IS NOT NULL;
-- How often one of them was changed: one row. Workers look whether it has grown.
CREATE TABLE egress_proxy_changes (
    id     smallint NOT NULL PRIMARY KEY,
    number bigint NOT NULL
);
INSERT INTO egress_proxy_changes (id, number) VALUES (0, 0);
";
