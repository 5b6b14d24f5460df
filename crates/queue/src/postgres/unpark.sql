-- Makes parked jobs of lanes that are no longer paused ready. $1 how many jobs. Returns how many became ready.

WITH clock AS MATERIALIZED (
    SELECT {now} AS now
-- Lanes with parked jobs whose pause is over. A probing lane needs a job only if it has none that is ready.
), opened AS MATERIALIZED (
    SELECT id, probing FROM lanes
    WHERE paused_until > 0 AND paused_until <= (SELECT now FROM clock) AND parked AND NOT draining
        AND NOT (probing AND (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = {ready} LIMIT 1) IS NOT NULL)
    LIMIT {lanes_opened_at_once} FOR UPDATE SKIP LOCKED
-- Their first jobs, and of a probing lane one.
), picked AS MATERIALIZED (
    SELECT parked.place, opened.id AS lane FROM opened CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place FROM jobs WHERE state = {parked} AND jobs.lane = opened.id
        ORDER BY priority, seq LIMIT CASE WHEN opened.probing THEN 1 ELSE $1 END FOR UPDATE SKIP LOCKED
    ) AS parked LIMIT $1
), moved AS (
    UPDATE jobs SET state = {ready} WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) RETURNING lane
-- A lane without parked jobs needs no more visits. The jobs moved above still count as parked here, so a lane is
-- found to be empty by the next call.
), empty AS (
    UPDATE lanes SET parked = false, paused_until = CASE WHEN probing THEN paused_until ELSE 0 END
    WHERE id = ANY (ARRAY(SELECT id FROM opened))
        AND (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = {parked} LIMIT 1) IS NULL
)
SELECT count(*) AS jobs FROM moved
