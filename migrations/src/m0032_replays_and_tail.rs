//! Replays and what each of them has still to deliver; who follows the live tail, and what happens then.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0032_replays_and_tail"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

const SHARED: &str = "
CREATE TABLE replays (
    tenant            text NOT NULL,
    id                {uuid} NOT NULL,
    mode              smallint NOT NULL,
    -- JSON.
    filter            text NOT NULL,
    status            smallint NOT NULL,
    -- Whether the set is complete. A paused replay goes on with what it did before.
    collected         boolean NOT NULL,
    -- One of few numbers while the replay is not over, which bounds how many replays a tenant has at a time.
    place             smallint,
    -- Only what had ended, or was dispatched, up to this moment belongs to the set.
    frozen_at         bigint NOT NULL,
    -- Up to which delivery or event, and within the next event up to which subscriber, the set is collected.
    reached           {uuid} NOT NULL,
    reached_within    {uuid} NOT NULL,
    total             bigint NOT NULL,
    -- Whether more matched than a set may have.
    truncated         boolean NOT NULL,
    done              bigint NOT NULL,
    failed            bigint NOT NULL,
    -- JSON: how many failed for each reason.
    failures          text NOT NULL,
    created_at        bigint NOT NULL,
    -- When the last step was taken.
    touched_at        bigint NOT NULL,
    ended_at          bigint,
    -- Whether rows of its set are to be removed.
    cleaning          boolean NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX replays_open ON replays (tenant, place) WHERE place IS NOT NULL;
-- Whose turn it is, of those that are collecting (0) or running (1).
CREATE INDEX replays_by_turn ON replays (tenant, touched_at, id) WHERE status < 2;
CREATE INDEX replays_cleaning ON replays (tenant, id) WHERE cleaning;
CREATE INDEX replays_by_age ON replays (created_at);

-- What the sets of replays still have.
CREATE TABLE replay_rows (
    tenant        text NOT NULL,
    replay_id     {uuid} NOT NULL,
    number        bigint NOT NULL,
    -- NULL if the event has no delivery to the subscriber yet.
    delivery_id   {uuid},
    event_id      {uuid} NOT NULL,
    subscriber_id {uuid} NOT NULL,
    PRIMARY KEY (tenant, replay_id, number)
);

-- Tenants whose attempts and ended deliveries somebody follows, or did a moment ago.
CREATE TABLE tail_watches (
    tenant     text PRIMARY KEY,
    watched_until bigint NOT NULL
);
-- What was recorded for these tenants, for some minutes.
CREATE TABLE tail_rows (
    tenant        text NOT NULL,
    -- Begins with the time.
    id            {uuid} NOT NULL,
    -- The delivery; NULL in a row that stands for `left_out` others.
    delivery_id   {uuid},
    subscriber_id {uuid},
    event_type    text,
    -- The status of the delivery afterwards.
    status        smallint,
    -- The number of the attempt; NULL if the row says that the delivery has ended.
    attempt       integer,
    left_out      integer,
    created_at    bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX tail_rows_by_age ON tail_rows (created_at);
";

const POSTGRES: &str = "
ALTER TABLE replays SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);
ALTER TABLE replay_rows SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 10000);
";
