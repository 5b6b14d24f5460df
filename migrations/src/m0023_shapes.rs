//! What decides who gets an event: names, metadata, channels and filters of subscribers, and the channels of events.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0023_shapes"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await
    }
}

/// The previous release leaves all of these columns NULL.
const SHARED: &str = "
-- A name that the application gave, unique in the tenant.
ALTER TABLE subscribers ADD COLUMN uid text;
-- An object of texts, as JSON; NULL if it is empty.
ALTER TABLE subscribers ADD COLUMN metadata text;
-- In their order, with spaces between them; NULL for a subscriber without channels.
ALTER TABLE subscribers ADD COLUMN channels text;
CREATE UNIQUE INDEX subscribers_by_uid ON subscribers (tenant, uid);

-- The subscriptions of subscribers that have channels, one row for each pair. They are not in `subscriptions`, so that who
-- looks there finds the subscribers of events without channels.
CREATE TABLE channel_subscriptions (
    tenant        text NOT NULL,
    channel       text NOT NULL,
    pattern       text NOT NULL,
    subscriber_id {uuid} NOT NULL REFERENCES subscribers (id) ON DELETE CASCADE,
    PRIMARY KEY (tenant, channel, pattern, subscriber_id)
);
CREATE INDEX channel_subscriptions_by_subscriber ON channel_subscriptions (subscriber_id);

-- As those of subscribers.
ALTER TABLE events ADD COLUMN metadata text;
ALTER TABLE events ADD COLUMN channels text;
-- Those of the event, from which each step finds its subscribers.
ALTER TABLE fan_outs ADD COLUMN channels text;
";
