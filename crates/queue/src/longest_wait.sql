-- The age of the oldest ready job that is blocked only by a lack of workers.
-- $1: for how many milliseconds a lane counts as full after a claim took all that it allowed.

-- From lane to lane over the index of ready jobs, as a claim walks.
WITH RECURSIVE walk(lane) AS (
    SELECT (SELECT lane FROM jobs WHERE state = {ready} ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT jobs.lane FROM jobs WHERE state = {ready} AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1)
    FROM walk WHERE walk.lane IS NOT NULL
)
-- Of each lane that holds nothing back, the job that a claim would take first. Lanes are looked up one by one: PostgreSQL
-- keeps the plan, and a join that was planned while the table was nearly empty would read all of it once it has grown.
SELECT max((
    SELECT {now} - (
        SELECT available_at FROM jobs WHERE state = {ready} AND jobs.lane = lanes.id ORDER BY priority, seq LIMIT 1
    )
    FROM lanes WHERE lanes.id = walk.lane AND paused_until <= {now} AND NOT probing AND NOT draining AND full_at <= {now} - $1
)) AS waited
FROM walk
