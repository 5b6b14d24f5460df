//! Subscribers, events, deliveries, attempts, the queue's lanes and jobs, and the roll-ups.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_foundation"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// Names that end in `_at` or `_until` are Unix milliseconds, `_us` microseconds.
const SHARED: &str = "
CREATE TABLE subscribers (
    id                    {uuid} PRIMARY KEY,
    tenant                text NOT NULL,
    url                   text NOT NULL,
    description           text NOT NULL,
    -- Encrypted with the deployment's key; see `postrider_core::keyring`.
    secret                {bytes} NOT NULL,
    previous_secret       {bytes},
    previous_secret_until bigint,
    headers               {bytes},
    -- JSON: the fields of the policy that the subscriber sets; the others come from the settings.
    policy                text NOT NULL,
    active                boolean NOT NULL,
    deactivated_at        bigint,
    deactivation_reason   smallint,
    created_at            bigint NOT NULL,
    updated_at            bigint NOT NULL
);
CREATE INDEX subscribers_by_tenant ON subscribers (tenant, id);

-- Looked up by the few patterns that an event type can match, never searched.
CREATE TABLE subscriptions (
    tenant        text NOT NULL,
    pattern       text NOT NULL,
    subscriber_id {uuid} NOT NULL REFERENCES subscribers (id) ON DELETE CASCADE,
    PRIMARY KEY (tenant, pattern, subscriber_id)
);
CREATE INDEX subscriptions_by_subscriber ON subscriptions (subscriber_id);

CREATE TABLE events (
    id                {uuid} PRIMARY KEY,
    tenant            text NOT NULL,
    event_type        text NOT NULL,
    agent_id          text NOT NULL,
    -- The body that every subscriber gets, byte for byte.
    envelope          {bytes} NOT NULL,
    subscribers_found integer NOT NULL,
    dispatched_at     bigint NOT NULL
);
CREATE INDEX events_by_tenant ON events (tenant, id);

CREATE TABLE idempotency_keys (
    tenant       text NOT NULL,
    key          text NOT NULL,
    request_hash {bytes} NOT NULL,
    event_id     {uuid} NOT NULL,
    -- The first response: subscriber and job ids in turn, sixteen bytes each.
    jobs         {bytes} NOT NULL,
    created_at   bigint NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- No foreign keys from here on: these tables are written thousands of times a second, outlive the
-- subscribers that they name, and will be partitioned by id.
CREATE TABLE deliveries (
    id              {uuid} PRIMARY KEY,
    tenant          text NOT NULL,
    event_id        {uuid} NOT NULL,
    subscriber_id   {uuid} NOT NULL,
    event_type      text NOT NULL,
    status          smallint NOT NULL,
    -- All attempts so far, and how many of them were made before the current round.
    attempts        integer NOT NULL,
    round_start     integer NOT NULL,
    -- The current job; any other job that names this delivery is stale.
    job_id          {uuid},
    -- Set from the first failed attempt until the end.
    next_attempt_at bigint,
    response_status smallint,
    error_kind      smallint,
    dead_reason     smallint,
    died_at         bigint,
    created_at      bigint NOT NULL,
    ended_at        bigint
);
CREATE INDEX deliveries_by_tenant ON deliveries (tenant, id);
CREATE INDEX deliveries_by_subscriber ON deliveries (subscriber_id, id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
-- Over a column that success never changes, so that PostgreSQL can update in place (HOT).
CREATE INDEX deliveries_dead ON deliveries (tenant, id) WHERE died_at IS NOT NULL;
CREATE INDEX deliveries_dead_by_subscriber ON deliveries (subscriber_id, died_at) WHERE died_at IS NOT NULL;

CREATE TABLE attempts (
    id                 {uuid} NOT NULL,
    tenant             text NOT NULL,
    delivery_id        {uuid} NOT NULL,
    number             integer NOT NULL,
    started_at         bigint NOT NULL,
    duration_us        bigint NOT NULL,
    response_status    smallint,
    -- JSON: pairs of name and value; each byte of a value is the character with that number.
    response_headers   {bytes},
    response_body      {bytes},
    response_truncated boolean NOT NULL,
    error_kind         smallint,
    error_detail       text,
    -- Attempts are only looked up by their delivery.
    PRIMARY KEY (delivery_id, id)
);

-- Counts by the minute, updated as deliveries are made and end, so that no statistic scans the deliveries.
-- `slot` is the writer's shard: each process adds to rows of its own.
CREATE TABLE rollups (
    tenant        text NOT NULL,
    subscriber_id {uuid} NOT NULL,
    event_type    text NOT NULL,
    minute        bigint NOT NULL,
    slot          smallint NOT NULL,
    -- By the minute in which the delivery was created.
    created       bigint NOT NULL,
    succeeded     bigint NOT NULL,
    dead          bigint NOT NULL,
    cancelled     bigint NOT NULL,
    -- Attempts of the deliveries that have ended.
    spent         bigint NOT NULL,
    PRIMARY KEY (tenant, minute, subscriber_id, event_type, slot)
);

-- The results of attempts as they are recorded, in rows that no other process updates; folded some seconds later.
CREATE TABLE attempt_deltas (
    seq           {sequence},
    tenant        text NOT NULL,
    subscriber_id {uuid} NOT NULL,
    event_type    text NOT NULL,
    minute        bigint NOT NULL,
    attempts      bigint NOT NULL,
    -- Histograms and failures by kind; see `tally.rs` of the store.
    counts        {bytes} NOT NULL
);

-- The same by the minute, the hour and the day; with the nil id for all subscribers, and no event type
-- for all of them. `start` is in minutes, and so is `width`.
CREATE TABLE attempt_rollups (
    tenant        text NOT NULL,
    subscriber_id {uuid} NOT NULL,
    event_type    text NOT NULL,
    width         bigint NOT NULL,
    start         bigint NOT NULL,
    attempts      bigint NOT NULL,
    counts        {bytes} NOT NULL,
    PRIMARY KEY (tenant, subscriber_id, event_type, width, start)
);
-- Folding finds old rows by it.
CREATE INDEX attempt_rollups_by_age ON attempt_rollups (width, start);

-- The failures of subscribers. A healthy subscriber has no row, and its successes cost no write here.
CREATE TABLE health (
    subscriber_id   {uuid} PRIMARY KEY,
    -- Failures that are the receiver's fault, since its last success, and when the first of them was.
    failures        integer NOT NULL,
    first_failed_at bigint NOT NULL,
    -- The circuit breaker: how often it has opened since the last success, when last, and until when.
    openings        integer NOT NULL,
    opened_at       bigint,
    open_until      bigint
);

CREATE TABLE lanes (
    id               {uuid} PRIMARY KEY,
    concurrency      integer,
    ordered          boolean NOT NULL,
    rate_interval_us bigint,
    rate_burst       integer,
    -- Generic cell rate algorithm: when the next job would be due if jobs came at the full rate.
    rate_next_us     bigint NOT NULL,
    running          integer NOT NULL,
    -- No job is claimed before this moment, and after it one at a time if the lane is probing.
    paused_until     bigint NOT NULL,
    probing          boolean NOT NULL,
    -- Some of its jobs are parked, out of the way of claims.
    parked           boolean NOT NULL,
    -- When a claim last took as many jobs as the lane allowed.
    full_at          bigint NOT NULL DEFAULT 0
);
CREATE INDEX lanes_paused ON lanes (paused_until) WHERE paused_until > 0;

CREATE TABLE jobs (
    -- The order of a lane. No index on PostgreSQL: no statement looks jobs up by it alone.
    seq          {sequence},
    id           {uuid} NOT NULL UNIQUE,
    lane         {uuid} NOT NULL,
    subject      {uuid} NOT NULL,
    state        smallint NOT NULL,
    priority     smallint NOT NULL,
    available_at bigint NOT NULL,
    lease_token  {uuid},
    lease_until  bigint,
    claims       integer NOT NULL,
    rescues      integer NOT NULL,
    trace        text
);
-- One index for each state: claims walk over ready jobs only. State 0 is ready, 1 scheduled, 2 parked, 3 running.
CREATE INDEX jobs_ready ON jobs (lane, priority, seq) WHERE state = 0;
CREATE INDEX jobs_scheduled ON jobs (available_at) WHERE state = 1;
CREATE INDEX jobs_scheduled_by_lane ON jobs (lane) WHERE state = 1;
CREATE INDEX jobs_held ON jobs (lane, priority, seq) WHERE state = 2;
CREATE INDEX jobs_running ON jobs (lease_until) WHERE state = 3;
";

/// Room for updates in place, and a vacuum that depends on the number of dead rows, not on the table's size (PostgreSQL's
/// manual, §25.1.6): queue tables are small and turn over fast. They are analysed as often, because a plan for ten jobs is
/// a bad plan for a million.
const POSTGRES: &str = "
ALTER TABLE deliveries SET (fillfactor = 80);
ALTER TABLE lanes SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE rollups SET (fillfactor = 50);
-- For logical replication, instead of a primary key.
ALTER TABLE jobs REPLICA IDENTITY USING INDEX jobs_id_key;
-- Rows are folded and removed in this order.
ALTER TABLE attempt_deltas ADD PRIMARY KEY (seq);
ALTER TABLE attempt_deltas SET (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000
);
ALTER TABLE attempt_rollups SET (fillfactor = 70);
ALTER TABLE jobs SET (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 1
);
";
