//! The queue with one index for its jobs, a table for scheduled jobs, and one for claims.
//!
//! Programs of the release before cannot run beside this schema: stop them first. Claims that they held are void, so
//! their jobs are ready again.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_queue"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let (lanes, keys) = match connection.get_database_backend() {
            DbBackend::Postgres => ("uuid[]", POSTGRES),
            _ => ("blob", SQLITE),
        };
        crate::schema::apply(manager, &TABLES.replace("{lanes}", lanes), "").await?;
        connection.execute_unprepared(keys).await?;
        crate::schema::apply(manager, MOVED, "").await
    }
}

const TABLES: &str = "
ALTER TABLE jobs RENAME TO old_jobs;

-- Jobs that are ready or claimed. A claim writes no indexed column.
CREATE TABLE jobs (
    -- The order of a lane within a priority.
    seq          {sequence},
    available_at bigint NOT NULL,
    lane         {uuid} NOT NULL,
    id           {uuid} NOT NULL,
    subject      {uuid} NOT NULL,
    -- The claim that holds the job.
    lease_token  {uuid},
    claims       integer NOT NULL,
    rescues      integer NOT NULL,
    -- 0 for first attempts, 1 for retries.
    priority     smallint NOT NULL,
    -- Whose job it is; the store's tenant.
    owner        text NOT NULL,
    trace        text
);

-- Jobs that are not due yet.
CREATE TABLE scheduled_jobs (
    seq          {sequence},
    available_at bigint NOT NULL,
    lane         {uuid} NOT NULL,
    id           {uuid} NOT NULL,
    subject      {uuid} NOT NULL,
    claims       integer NOT NULL,
    rescues      integer NOT NULL,
    -- With which the job will be ready.
    priority     smallint NOT NULL,
    owner        text NOT NULL,
    trace        text
);
CREATE INDEX scheduled_jobs_due ON scheduled_jobs (available_at);

-- Until when the jobs of a claim are leased.
CREATE TABLE claims (
    token       {uuid} PRIMARY KEY,
    lease_until bigint NOT NULL,
    -- The lanes in which the claim has jobs; on SQLite their ids one after the other.
    lanes       {lanes} NOT NULL
);
CREATE INDEX claims_by_end ON claims (lease_until);

ALTER TABLE lanes ADD COLUMN owner text NOT NULL DEFAULT '';
-- Until when claims need not look at the lane, because it is paused or far above its rate.
ALTER TABLE lanes ADD COLUMN shut_until bigint;
-- The greatest `seq` that was claimed.
ALTER TABLE lanes ADD COLUMN last_seq bigint NOT NULL DEFAULT 0;
-- So many jobs have passed through lately that removed ones may be in the way of claims. These start at `head`: no ready
-- first attempt of the lane has a smaller `seq`. `next_head` will be the head when all transactions before `next_xid` have
-- ended.
ALTER TABLE lanes ADD COLUMN crowded boolean NOT NULL DEFAULT false;
ALTER TABLE lanes ADD COLUMN passed integer NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN head bigint NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN next_head bigint NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN next_xid bigint NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN next_head_at bigint NOT NULL DEFAULT 0;
CREATE INDEX lanes_crowded ON lanes (id) WHERE crowded;
";

const POSTGRES: &str = "
ALTER TABLE jobs ADD CONSTRAINT jobs_by_place PRIMARY KEY (lane, priority, seq);
ALTER TABLE scheduled_jobs ADD CONSTRAINT scheduled_jobs_by_lane PRIMARY KEY (lane, seq);
-- Jobs that are enqueued together are claimed together. Half of each page is free for their new versions, so that these
-- need no entry in the index.
ALTER TABLE jobs SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE scheduled_jobs SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE claims SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000
);
";

const SQLITE: &str = "
CREATE UNIQUE INDEX jobs_by_place ON jobs (lane, priority, seq);
CREATE UNIQUE INDEX scheduled_jobs_by_lane ON scheduled_jobs (lane, seq);
";

const MOVED: &str = "
INSERT INTO jobs (available_at, lane, id, subject, claims, rescues, priority, owner, trace)
    SELECT available_at, lane, id, subject, claims, rescues, priority,
        coalesce((SELECT tenant FROM deliveries WHERE deliveries.id = old_jobs.subject), ''), trace
    FROM old_jobs WHERE state <> 1 ORDER BY seq;
INSERT INTO scheduled_jobs (available_at, lane, id, subject, claims, rescues, priority, owner, trace)
    SELECT available_at, lane, id, subject, claims, rescues, priority,
        coalesce((SELECT tenant FROM deliveries WHERE deliveries.id = old_jobs.subject), ''), trace
    FROM old_jobs WHERE state = 1 ORDER BY seq;
DROP TABLE old_jobs;
UPDATE lanes SET running = 0, shut_until = CASE WHEN shut THEN paused_until END, owner = coalesce(
    (SELECT tenant FROM subscribers WHERE subscribers.id = lanes.id),
    (SELECT owner FROM jobs WHERE jobs.lane = lanes.id LIMIT 1),
    (SELECT owner FROM scheduled_jobs WHERE scheduled_jobs.lane = lanes.id LIMIT 1), '');
DROP INDEX lanes_open;
DROP INDEX lanes_shut;
DROP INDEX lanes_paused;
ALTER TABLE lanes DROP COLUMN shut;
ALTER TABLE lanes DROP COLUMN parked;
CREATE INDEX lanes_open ON lanes (id) WHERE shut_until IS NULL;
CREATE INDEX lanes_shut ON lanes (shut_until) WHERE shut_until IS NOT NULL;
";
