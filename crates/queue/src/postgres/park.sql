-- Parks ready jobs of lanes that stay paused for a while. $1 how many jobs, $2 the lane after which to start.
-- Returns the lane after which to start next time, or nothing at the end.

WITH RECURSIVE clock AS MATERIALIZED (
    SELECT {now} AS now
-- From lane to lane over the index of ready jobs, as a claim walks; not at all if no lane is shut.
), walk(lane, step) AS (
    (SELECT lane, 1 FROM jobs WHERE state = {ready} AND lane > $2 AND (SELECT 1 FROM lanes WHERE shut LIMIT 1) IS NOT NULL
     ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT jobs.lane FROM jobs WHERE state = {ready} AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1),
        step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < {lanes_at_once}
-- Ordered lanes keep their jobs ready: jobs enqueued in the meantime would overtake the parked ones. Draining lanes keep
-- theirs where they are, as they end soon. Lanes that another
-- transaction has locked are left for the next time.
), paused AS MATERIALIZED (
    SELECT id FROM lanes, clock
    WHERE id = ANY (ARRAY(SELECT lane FROM walk WHERE lane IS NOT NULL))
        AND paused_until > now + {worth_parking} AND NOT ordered AND NOT draining
    FOR UPDATE OF lanes SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT ready.place, paused.id AS lane FROM paused CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place FROM jobs WHERE state = {ready} AND jobs.lane = paused.id
        ORDER BY priority, seq LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS ready LIMIT $1
), moved AS (
    UPDATE jobs SET state = {parked} WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) RETURNING lane
), marked AS (
    UPDATE lanes SET parked = true WHERE id = ANY (ARRAY(SELECT lane FROM moved)) AND NOT parked
)
SELECT lane AS next FROM walk WHERE step = {lanes_at_once}
