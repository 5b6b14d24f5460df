//! What subscribers matched before they were changed, and the lanes of each owner.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0031_versions"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// A change by an older program keeps no version, and leaves `matching_since_at` as it was: what is said about events from
/// before that change then describes the subscriber after it.
const SHARED: &str = "
-- Since when the subscriber has matched events as it does now. NULL if that is not known.
ALTER TABLE subscribers ADD COLUMN matching_since_at bigint;

-- How a subscriber matched events until it was changed.
CREATE TABLE subscriber_versions (
    subscriber_id {uuid} NOT NULL REFERENCES subscribers (id) ON DELETE CASCADE,
    ended_at      bigint NOT NULL,
    began_at      bigint NOT NULL,
    active        boolean NOT NULL,
    -- Its patterns, separated by spaces.
    events        text NOT NULL,
    channels      text,
    -- A CEL expression. NULL: every event.
    filter        text,
    PRIMARY KEY (subscriber_id, ended_at)
);
CREATE INDEX subscriber_versions_by_end ON subscriber_versions (ended_at);

CREATE INDEX lanes_by_owner ON lanes (owner, id);
";
