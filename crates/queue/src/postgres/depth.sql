-- How many jobs are in each state, and how old the oldest ready one is, at a cost that is bounded by the number of
-- lanes with ready jobs.

-- Of each lane, the first try and the retry that a claim would take first: none waits longer.
WITH RECURSIVE walk(lane, since) AS (
    (SELECT lane, available_at FROM jobs WHERE state = {ready} ORDER BY lane, priority, seq LIMIT 1)
    UNION ALL
    SELECT next.lane, next.available_at FROM walk CROSS JOIN LATERAL (
        SELECT jobs.lane, jobs.available_at FROM jobs WHERE state = {ready} AND jobs.lane > walk.lane
        ORDER BY jobs.lane, jobs.priority, jobs.seq LIMIT 1
    ) AS next
), oldest AS MATERIALIZED (
    SELECT {now} - min(LEAST(since, (
        SELECT available_at FROM jobs WHERE state = {ready} AND jobs.lane = walk.lane AND priority = {retry}
        ORDER BY seq LIMIT 1
    ))) AS oldest FROM walk
-- Each state up to a limit, in the index of that state.
), counted(state, index, jobs) AS (
    SELECT {ready}::smallint, 'jobs_ready'::regclass, (
        SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = {ready} LIMIT {counted} + 1) AS few)
    UNION ALL
    SELECT {scheduled}::smallint, 'jobs_scheduled'::regclass, (
        SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = {scheduled} LIMIT {counted} + 1) AS few)
    UNION ALL
    SELECT {parked}::smallint, 'jobs_held'::regclass, (
        SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = {parked} LIMIT {counted} + 1) AS few)
    UNION ALL
    SELECT {running}::smallint, 'jobs_running'::regclass, (
        SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = {running} LIMIT {counted} + 1) AS few)
)
-- Above the limit, PostgreSQL's own estimate, which vacuum and analyze leave with the index; see ADR 16.
SELECT state, (SELECT oldest FROM oldest) AS oldest,
    CASE WHEN jobs > {counted} THEN
        GREATEST(jobs, (SELECT reltuples::bigint FROM pg_class WHERE oid = counted.index))
    ELSE jobs END AS jobs
FROM counted
