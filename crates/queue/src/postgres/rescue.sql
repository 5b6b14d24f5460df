-- Takes back jobs whose leases have expired.
--
-- $1 how many, $2 after how many rescues a job is exhausted, $3 the token and $4 the duration in milliseconds of the
-- leases on exhausted jobs.

WITH clock AS MATERIALIZED (
    SELECT {now} AS now
-- In the order of the index: in the order of ids, PostgreSQL would read all jobs. No job is waited for.
), expired AS MATERIALIZED (
    SELECT id, lane, rescues >= $2 AS exhausted FROM jobs
    WHERE state = {running} AND lease_until < (SELECT now FROM clock)
    ORDER BY lease_until LIMIT $1 FOR UPDATE SKIP LOCKED
-- The lanes that run fewer jobs, locked in the order of their ids.
), locked AS MATERIALIZED (
    SELECT id FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM expired WHERE NOT exhausted)) ORDER BY id FOR UPDATE
-- An exhausted job is leased to the rescuer, any other one is ready again.
), rescued AS (
    UPDATE jobs SET
        state = CASE WHEN exhausted THEN {running} ELSE {ready} END,
        rescues = rescues + CASE WHEN exhausted THEN 0 ELSE 1 END,
        available_at = CASE WHEN exhausted THEN available_at ELSE now END,
        lease_token = CASE WHEN exhausted THEN $3::uuid END,
        lease_until = CASE WHEN exhausted THEN now + $4 END
    FROM expired, clock WHERE jobs.id BETWEEN expired.id AND expired.id
    RETURNING jobs.id, jobs.lane, jobs.subject, jobs.claims, jobs.rescues, jobs.trace, expired.exhausted
), freed AS (
    UPDATE lanes SET running = running - ended.jobs
    FROM (
        SELECT expired.lane, count(*)::integer AS jobs
        FROM expired JOIN locked ON locked.id = expired.lane WHERE NOT exhausted GROUP BY expired.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
)
SELECT * FROM rescued
