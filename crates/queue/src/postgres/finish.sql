-- Ends claims. Continues `WITH input(id, token, remove, delay)`: `remove` if the job is done or buried; `delay` in
-- milliseconds if it is to be retried, and NULL if it was not tried.
--
-- Jobs and lanes are looked up one by one, by arrays, or by a range of one; they are never joined. PostgreSQL keeps the
-- plan, and a plan made while a table was nearly empty would join with all of it once it has grown.

, clock AS MATERIALIZED (
    SELECT {now} AS now
-- The jobs whose leases are valid (only a running job has a token), locked in the order of their ids.
), held AS MATERIALIZED (
    SELECT mine.id, mine.lane, given.remove, given.delay
    FROM (SELECT * FROM input ORDER BY id) AS given CROSS JOIN LATERAL (
        SELECT jobs.id, jobs.lane FROM jobs WHERE jobs.id = given.id AND jobs.lease_token = given.token
        LIMIT 1 FOR UPDATE
    ) AS mine
-- Their lanes, locked after all jobs and in the order of their ids.
), locked AS MATERIALIZED (
    SELECT id, ordered FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM held)) ORDER BY id FOR UPDATE
), removed AS (
    DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held WHERE remove))
), again AS MATERIALIZED (
    SELECT held.id, held.delay, locked.ordered FROM held JOIN locked ON locked.id = held.lane WHERE NOT held.remove
-- A job of an ordered lane keeps its place and is ready at once, as its lane pauses instead. A retry of any other lane
-- comes after the first tries. A job that was not tried comes back as it was.
), returned AS (
    UPDATE jobs SET (state, priority, available_at, lease_token, lease_until) = (
        SELECT
            CASE WHEN again.delay IS NULL OR again.delay = 0 OR again.ordered THEN {ready} ELSE {scheduled} END,
            CASE WHEN again.delay IS NULL OR again.ordered THEN jobs.priority ELSE {retry} END,
            clock.now + coalesce(again.delay, 0),
            NULL::uuid, NULL::bigint
        FROM again CROSS JOIN clock WHERE again.id = jobs.id
    )
    WHERE id = ANY (ARRAY(SELECT id FROM again))
-- The lanes run fewer jobs, and ordered ones pause until the job that they wait for is due.
), freed AS (
    UPDATE lanes SET running = running - ended.jobs, paused_until = GREATEST(paused_until, ended.until),
        shut = shut OR ended.until > 0
    FROM (
        SELECT held.lane, count(*)::integer AS jobs,
            max(CASE WHEN locked.ordered AND held.delay > 0 THEN now + held.delay ELSE 0 END) AS until
        FROM held JOIN locked ON locked.id = held.lane CROSS JOIN clock GROUP BY held.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
)
SELECT id FROM held
