-- Prolongs leases. Continues `WITH input(id, token)`. $1 how long from now, in milliseconds.

-- Locked in the order of ids, as `finish.sql` does, so that the two wait for each other and do not deadlock.
, held AS MATERIALIZED (
    SELECT mine.id FROM (SELECT * FROM input ORDER BY id) AS given CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs WHERE jobs.id = given.id AND jobs.lease_token = given.token LIMIT 1 FOR UPDATE
    ) AS mine
)
UPDATE jobs SET lease_until = {now} + $1 WHERE id = ANY (ARRAY(SELECT id FROM held)) RETURNING id
