-- The next lanes that may have ready jobs.
--
-- $1 the lane after which to start, $2 how many lanes, $3 the greatest id.

WITH RECURSIVE {walk},
-- Lanes that are marked as shut although their time is over: the walk steps over them.
seen(lane, step) AS (
    SELECT lane, step FROM walk WHERE lane IS NOT NULL
    UNION ALL
    SELECT * FROM (SELECT id, 0 FROM lanes WHERE shut_until <= {now} ORDER BY shut_until LIMIT 256) AS due
)
SELECT seen.lane, lanes.owner, seen.step, {greatest}(paused_until - {now}, {rate_for}) AS closed_for,
    NOT {withheld} AND (shut_until IS NULL OR shut_until <= {now}) AS worth_looking
FROM seen {with_lanes}
UNION ALL
-- When the next shut lane opens.
SELECT NULL, NULL, -1, (SELECT shut_until FROM lanes WHERE shut_until > {now} ORDER BY shut_until LIMIT 1) - {now}, false
