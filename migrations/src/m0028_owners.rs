//! How to authenticate to receivers, and notices to the owners of subscribers.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0028_owners"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// Older programs send requests without authentication, and no notices.
const SHARED: &str = "
-- A JSON object, encrypted. NULL: none.
ALTER TABLE subscribers ADD COLUMN auth {bytes};
-- When the first of its certificates expires, and when the owner is to be warned of that. NULL: never, or it has been warned.
ALTER TABLE subscribers ADD COLUMN auth_expires_at bigint;
ALTER TABLE subscribers ADD COLUMN auth_warn_at bigint;
CREATE INDEX subscribers_auth_warn ON subscribers (auth_warn_at) WHERE auth_warn_at IS NOT NULL;

-- Where its owner is notified.
ALTER TABLE subscribers ADD COLUMN notify_url text;
ALTER TABLE subscribers ADD COLUMN notify_email text;

-- Of what the owner of a failing subscriber has been notified, as bits, and when there may be more.
ALTER TABLE health ADD COLUMN noticed smallint NOT NULL DEFAULT 0;
ALTER TABLE health ADD COLUMN notify_at bigint;
CREATE INDEX health_notify ON health (notify_at) WHERE notify_at IS NOT NULL;

-- Notices that have not been sent. A worker moves `due_at` before it sends one, so that no other worker does so as well.
CREATE TABLE owner_notices (
    -- The id of the event that it reports.
    id {uuid} NOT NULL PRIMARY KEY,
    tenant text NOT NULL,
    subscriber_id {uuid} NOT NULL,
    channel smallint NOT NULL,
    kind smallint NOT NULL,
    -- A JSON object.
    data text NOT NULL,
    attempts integer NOT NULL,
    due_at bigint NOT NULL,
    created_at bigint NOT NULL
);
CREATE INDEX owner_notices_due ON owner_notices (due_at);
CREATE INDEX owner_notices_tenant ON owner_notices (tenant);
";
