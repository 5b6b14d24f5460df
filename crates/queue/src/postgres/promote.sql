-- Makes scheduled jobs ready that are due, and opens lanes whose pause is over. $1 how many of each.
-- The moment is a subquery, not a join: so PostgreSQL looks it up in the index and reads nothing that is not due.

WITH clock AS MATERIALIZED (
    SELECT {now} AS now
), due AS MATERIALIZED (
    SELECT ctid AS place FROM jobs WHERE state = {scheduled} AND available_at <= (SELECT now FROM clock)
    ORDER BY available_at LIMIT $1 FOR UPDATE SKIP LOCKED
), promoted AS (
    UPDATE jobs SET state = {ready} WHERE ctid = ANY (ARRAY(SELECT place FROM due)) RETURNING 1
-- That a lane is shut is a hint to claims, which step over it; see ADR 15.
), opened AS (
    UPDATE lanes SET shut = false WHERE id = ANY (ARRAY(
        SELECT id FROM lanes WHERE shut AND paused_until <= (SELECT now FROM clock)
        ORDER BY paused_until LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
)
SELECT (SELECT count(*) FROM promoted) AS jobs,
    (SELECT available_at FROM jobs WHERE state = {scheduled} AND available_at > (SELECT now FROM clock)
     ORDER BY available_at LIMIT 1) - (SELECT now FROM clock) AS next_due_in
