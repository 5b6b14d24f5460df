-- Prolongs claims. Continues `WITH input(lane, priority, seq, id, token)`. $1 how long from now, in milliseconds.

, prolonged AS (
    UPDATE claims SET lease_until = {now} + $1 WHERE token = ANY (ARRAY(SELECT DISTINCT token FROM input))
    RETURNING token
)
SELECT mine.id FROM (SELECT * FROM input WHERE token = ANY (ARRAY(SELECT token FROM prolonged))) AS given
CROSS JOIN LATERAL (
    SELECT jobs.id FROM jobs
    WHERE jobs.lane = given.lane AND jobs.priority = given.priority AND jobs.seq = given.seq
        AND jobs.id = given.id AND jobs.lease_token = given.token LIMIT 1
) AS mine
