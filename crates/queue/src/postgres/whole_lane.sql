-- The first ready job of a lane, searched from its beginning, and how many microseconds that took. $1 the lane.

WITH began AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), first AS MATERIALIZED (
    SELECT (
        SELECT seq FROM jobs
        WHERE lane = $1 AND priority = {first_try} AND lease_token IS NULL AND (SELECT at FROM began) IS NOT NULL
        ORDER BY seq LIMIT 1
    ) AS seq
)
SELECT seq, (extract(epoch FROM clock_timestamp() - (SELECT at FROM began)) * 1000000)::bigint AS took FROM first
