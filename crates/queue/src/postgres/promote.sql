-- Makes scheduled jobs ready that are due, and opens lanes whose pause is over. $1 how many of each. Returns the lanes.
-- The moment is a subquery, not a join: so PostgreSQL looks it up in the index and reads nothing that is not due.

WITH clock AS MATERIALIZED (
    SELECT {now} AS now
), due AS (
    DELETE FROM scheduled_jobs WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM scheduled_jobs WHERE available_at <= (SELECT now FROM clock)
        ORDER BY available_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )) AND available_at <= (SELECT now FROM clock)
    RETURNING *
), promoted AS (
    INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
    SELECT id, lane, owner, subject, priority, available_at, claims, rescues, trace FROM due
    ORDER BY available_at, seq RETURNING lane
-- That a lane is shut is a hint to walks, which step over it; see ADR 15.
), opened AS (
    UPDATE lanes SET shut_until = NULL WHERE id = ANY (ARRAY(
        SELECT id FROM lanes WHERE shut_until <= (SELECT now FROM clock)
        ORDER BY shut_until LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
)
SELECT array_agg(DISTINCT lane) AS lanes, count(*) AS jobs,
    (SELECT available_at FROM scheduled_jobs WHERE available_at > (SELECT now FROM clock)
     ORDER BY available_at LIMIT 1) - (SELECT now FROM clock) AS next_due_in
FROM promoted
