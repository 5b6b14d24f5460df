-- Takes back jobs whose leases have expired.
--
-- $1 how many, $2 after how many rescues a job is exhausted, $3 the token and $4 the duration in milliseconds of the
-- leases on exhausted jobs.

WITH clock AS MATERIALIZED (
    SELECT {now} AS now
), expired AS MATERIALIZED (
    SELECT token, lanes FROM claims WHERE lease_until < (SELECT now FROM clock)
    ORDER BY lease_until LIMIT $1 FOR UPDATE SKIP LOCKED
-- Their jobs. A lane's leased jobs are among those up to the last that was claimed.
), found AS MATERIALIZED (
    SELECT given.token, mine.place
    FROM (SELECT token, unnest(lanes) AS lane FROM expired) AS given
    CROSS JOIN (SELECT {first_try}::smallint AS priority UNION ALL SELECT {retry}::smallint) AS priorities
    CROSS JOIN LATERAL (SELECT last_seq FROM lanes WHERE lanes.id = given.lane LIMIT 1) AS lanes
    CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place FROM jobs
        WHERE jobs.lane = given.lane AND jobs.priority = priorities.priority AND seq <= lanes.last_seq
            AND jobs.lease_token = given.token
        ORDER BY seq
    ) AS mine
-- Claims without jobs are forgotten; the others when their last job was rescued.
), forgotten AS (
    DELETE FROM claims WHERE token = ANY (ARRAY(SELECT token FROM expired EXCEPT SELECT token FROM found))
-- No job is waited for: one that is locked is being finished.
), lost AS MATERIALIZED (
    SELECT ctid AS place, lane, seq, rescues >= $2 AS exhausted FROM jobs
    WHERE ctid = ANY (ARRAY(SELECT place FROM found LIMIT $1)) AND lease_token = ANY (ARRAY(SELECT token FROM expired))
    FOR UPDATE SKIP LOCKED
-- The lanes that run fewer jobs, locked in the order of their ids.
), locked AS MATERIALIZED (
    SELECT id FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM lost WHERE NOT exhausted)) ORDER BY id FOR UPDATE
-- An exhausted job is leased to the rescuer, any other one is ready again.
), rescued AS (
    UPDATE jobs SET
        rescues = rescues + CASE WHEN rescues >= $2 THEN 0 ELSE 1 END,
        available_at = CASE WHEN rescues >= $2 THEN available_at ELSE (SELECT now FROM clock) END,
        lease_token = CASE WHEN rescues >= $2 THEN $3::uuid END
    WHERE ctid = ANY (ARRAY(SELECT place FROM lost))
    RETURNING id, lane, priority, seq, owner, subject, claims, rescues, trace, lease_token IS NOT NULL AS exhausted
), freed AS (
    UPDATE lanes SET running = running - ended.jobs, head = LEAST(head, ended.first), next_head = LEAST(next_head, ended.first)
    FROM (
        SELECT lost.lane, count(*)::integer AS jobs, min(lost.seq) AS first
        FROM lost JOIN locked ON locked.id = lost.lane WHERE NOT exhausted GROUP BY lost.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
), kept AS (
    INSERT INTO claims (token, lease_until, lanes)
    SELECT $3, (SELECT now FROM clock) + $4, array_agg(DISTINCT lane) FROM rescued WHERE exhausted HAVING count(*) > 0
)
SELECT * FROM rescued
