-- How many jobs wait in the next lanes of a walk, how many are leased or scheduled, and since when the oldest is ready.
--
-- $1 the lane after which to start, $2 how many lanes, $3 the greatest id, $4 up to how many jobs of a lane are counted,
-- $5 up to how many scheduled jobs.

WITH RECURSIVE {walk},
seen AS (SELECT lane, step FROM walk WHERE lane IS NOT NULL),
counted AS (
    SELECT seen.lane, seen.step, (paused_until > {now} OR {on_hold}) AS paused, (SELECT count(*) FROM (
        SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.priority = {first_try} AND jobs.seq >= lanes.head
            AND jobs.lease_token IS NULL LIMIT $4
    ) AS first_tries) + (SELECT count(*) FROM (
        SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.priority = {retry}
            AND jobs.lease_token IS NULL LIMIT $4
    ) AS retries) AS waiting,
    {now} - {first_new} AS new_for, {now} - {first_again} AS again_for
    FROM seen {with_lanes}
)
SELECT
    CAST(coalesce(sum(CASE WHEN waiting < $4 AND NOT paused THEN waiting ELSE 0 END), 0) AS bigint) AS ready,
    CAST(coalesce(sum(CASE WHEN waiting < $4 AND paused THEN waiting ELSE 0 END), 0) AS bigint) AS held,
    -- Lanes with more jobs than are counted.
    count(CASE WHEN waiting >= $4 AND NOT paused THEN 1 END) AS long_ready,
    count(CASE WHEN waiting >= $4 AND paused THEN 1 END) AS long_held,
    max(CASE WHEN paused THEN NULL ELSE {greatest}(coalesce(new_for, again_for), coalesce(again_for, new_for)) END) AS oldest,
    count(*) AS lanes,
    (SELECT count(*) FROM (SELECT 1 FROM scheduled_jobs LIMIT $5) AS few) AS scheduled,
    {running} AS running,
    {all_jobs} AS all_jobs,
    {all_scheduled} AS all_scheduled,
    (SELECT lane FROM seen ORDER BY step DESC LIMIT 1) AS last_lane
FROM counted
