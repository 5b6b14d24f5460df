-- The ids of these three tables begin with the time at which their event was dispatched, so a partition holds the events,
-- deliveries and attempts of a span of time, usually a day. Names that end in `_at` or `_until` are Unix milliseconds,
-- `_us` microseconds.
CREATE TABLE events (
    tenant            text NOT NULL,
    id                {uuid} NOT NULL,
    event_type        text NOT NULL,
    agent_id          text NOT NULL,
    -- The body that every subscriber gets, byte for byte.
    envelope          {bytes} NOT NULL,
    subscribers_found integer NOT NULL,
    dispatched_at     bigint NOT NULL,
    -- How many jobs the fan-out of the event has made in all. NULL until it is complete, and for events without one, which
    -- have a job for each of their subscribers.
    jobs_created      integer,
    PRIMARY KEY (tenant, id)
){partitioned};

CREATE TABLE deliveries (
    tenant          text NOT NULL,
    -- The event's id, with the delivery's number in the last 20 bits.
    id              {uuid} NOT NULL,
    -- Set only for deliveries of the first edition, whose ids do not begin with their event's.
    event_id        {uuid},
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
    ended_at        bigint,
    PRIMARY KEY (tenant, id)
){partitioned};
-- Partial, although the condition always holds: PostgreSQL cannot prove it for a look-up by id, and so does not choose
-- this index for one. While the table is empty, both look equally good to the planner.
CREATE INDEX deliveries_by_subscriber ON deliveries (subscriber_id, id) WHERE subscriber_id IS NOT NULL;
CREATE INDEX deliveries_by_event ON deliveries (event_id, id) WHERE event_id IS NOT NULL;
-- Over a column that success never changes, so that PostgreSQL can update in place (HOT).
CREATE INDEX deliveries_dead ON deliveries (tenant, id) WHERE died_at IS NOT NULL;
CREATE INDEX deliveries_dead_by_subscriber ON deliveries (subscriber_id, died_at) WHERE died_at IS NOT NULL;

CREATE TABLE attempts (
    tenant             text NOT NULL,
    delivery_id        {uuid} NOT NULL,
    id                 {uuid} NOT NULL,
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
    PRIMARY KEY (tenant, delivery_id, id)
){partitioned_by_delivery};

-- The partitions of the three tables: `events_SUFFIX` and so on have the rows whose ids were made from `starts_at` until
-- before `ends_at`. On SQLite, which has no partitions, at most one row: that of the first edition's data.
CREATE TABLE partitions (
    starts_at bigint PRIMARY KEY,
    ends_at   bigint NOT NULL UNIQUE,
    suffix    text NOT NULL UNIQUE,
    -- Whether it has the data of the first edition.
    converted boolean NOT NULL
);
