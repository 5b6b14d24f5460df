-- The next lane with ready jobs, and what it allows now.
--
-- $1 the lane after which to look, $2 the concurrency of lanes that have none of their own, $3 a number that no claim
-- reaches, $4 whether the lane before was paused: then the next lane that is not paused either.

WITH clock(now) AS (SELECT {now})
SELECT id, paused_until - now AS paused_for, {rate_for} AS rate_for,
    {may_claim} AS open, {at_limit} AS at_limit,
    min({allowed} - running, {rate_room}) AS room
FROM lanes, clock
WHERE id = CASE WHEN $4 THEN (
        SELECT lane FROM jobs WHERE state = {ready} AND lane >= (
            SELECT open.id FROM lanes AS open WHERE open.id > $1 AND open.paused_until <= now ORDER BY open.id LIMIT 1
        ) ORDER BY lane LIMIT 1
    ) ELSE (SELECT lane FROM jobs WHERE state = {ready} AND lane > $1 ORDER BY lane LIMIT 1) END
