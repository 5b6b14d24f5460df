-- Ends claims. Continues `WITH input(lane, priority, seq, id, token, remove, delay)`: `remove` if the job is done or
-- buried; `delay` in milliseconds if it is to be retried, and NULL if it was not tried.
--
-- Jobs and lanes are looked up one by one, by arrays, or by a range of one; they are never joined. PostgreSQL keeps the
-- plan, and a plan made while a table was nearly empty would join with all of it once it has grown.

, clock AS MATERIALIZED (
    SELECT {now} AS now
-- The jobs whose leases are valid, locked in the order of their places.
), held AS MATERIALIZED (
    SELECT mine.*, given.remove, given.delay
    FROM (SELECT * FROM input ORDER BY lane, priority, seq) AS given CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place, jobs.* FROM jobs
        WHERE jobs.lane = given.lane AND jobs.priority = given.priority AND jobs.seq = given.seq
            AND jobs.id = given.id AND jobs.lease_token = given.token
        LIMIT 1 FOR UPDATE
    ) AS mine
-- Their lanes, locked after all jobs and in the order of their ids.
), locked AS MATERIALIZED (
    SELECT id, ordered FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM held)) ORDER BY id FOR UPDATE
-- A job of an ordered lane keeps its place and is ready at once, as its lane pauses instead. A retry of any other lane
-- comes after the first tries. A job that was not tried comes back as it was.
), again AS MATERIALIZED (
    SELECT held.*, held.delay IS NULL OR locked.ordered AS stays
    FROM held JOIN locked ON locked.id = held.lane WHERE NOT held.remove
), removed AS (
    DELETE FROM jobs WHERE ctid = ANY (ARRAY(
        SELECT place FROM held WHERE remove UNION ALL SELECT place FROM again WHERE NOT stays
    )) RETURNING jobs.id
), stayed AS (
    UPDATE jobs SET lease_token = NULL, available_at = (SELECT now FROM clock) + coalesce((
        SELECT delay FROM again WHERE again.place = jobs.ctid
    ), 0)
    WHERE ctid = ANY (ARRAY(SELECT place FROM again WHERE stays)) RETURNING jobs.id
), retried AS (
    INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
    SELECT id, lane, owner, subject, {retry}, (SELECT now FROM clock), claims, rescues, trace
    FROM again WHERE NOT stays AND delay = 0 ORDER BY lane, priority, seq
), scheduled AS (
    INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
    SELECT id, lane, owner, subject, {retry}, (SELECT now FROM clock) + delay, claims, rescues, trace
    FROM again WHERE NOT stays AND delay > 0 ORDER BY lane, priority, seq
-- The lanes run fewer jobs, and ordered ones pause until the job that they wait for is due.
), freed AS (
    UPDATE lanes SET running = running - ended.jobs, paused_until = GREATEST(paused_until, ended.until),
        shut_until = CASE WHEN ended.until > 0 AND NOT {on_hold} THEN GREATEST(paused_until, ended.until) ELSE shut_until END,
        head = LEAST(head, ended.first), next_head = LEAST(next_head, ended.first)
    FROM (
        SELECT held.lane, count(*)::integer AS jobs,
            min(held.seq) FILTER (WHERE NOT held.remove) AS first,
            max(CASE WHEN locked.ordered AND held.delay > 0 THEN now + held.delay ELSE 0 END) AS until
        FROM held JOIN locked ON locked.id = held.lane CROSS JOIN clock GROUP BY held.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
)
SELECT id FROM removed UNION ALL SELECT id FROM stayed
