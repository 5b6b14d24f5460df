-- The age of the oldest ready job that is blocked only by a lack of workers, in the next lanes of a walk.
--
-- $1 the lane after which to start, $2 how many lanes, $3 the greatest id, $4 for how many milliseconds a lane counts as
-- full after a claim took all that it allowed.

WITH RECURSIVE {walk},
seen AS (SELECT lane, step FROM walk WHERE lane IS NOT NULL)
-- Of each lane that holds nothing back, the job that a claim would take first.
SELECT
    max(CASE WHEN paused_until <= {now} AND NOT probing AND NOT {withheld} AND full_at <= {now} - $4
        THEN {now} - coalesce({first_new}, {first_again}) END) AS waited,
    count(*) AS lanes,
    (SELECT lane FROM seen ORDER BY step DESC LIMIT 1) AS last_lane
FROM seen {with_lanes}
