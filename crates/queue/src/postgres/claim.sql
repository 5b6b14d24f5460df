-- Claims ready jobs, lane by lane, a fair share of each.
--
-- $1 the lane after which to start, $2 how many lanes to look at, $3 lanes to skip, $4 how many jobs,
-- $5 the leases' token, $6 their duration in milliseconds, $7 the concurrency of lanes that have none of their own.
--
-- Tables are looked up row by row, by an array, or by a range of one; they are never joined. PostgreSQL keeps the plan,
-- and a plan made while a table was nearly empty would join with all of it once it has grown.

-- The moment of the statement in Unix milliseconds.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT {now} AS now
-- Lanes that are marked as shut although their pause is over. `promote` opens them, so there are few.
), due AS MATERIALIZED (
    SELECT id FROM lanes WHERE shut AND paused_until <= (SELECT now FROM clock)
-- The next lane with ready jobs, from each lane to the one after it. A shut lane is followed by the next lane that is
-- not shut or whose pause is over, so that a run of paused lanes is a single step.
), walk(lane, step) AS (
    (SELECT lane, 1::bigint FROM jobs WHERE state = {ready} AND lane > $1 ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT CASE WHEN (SELECT shut FROM lanes WHERE lanes.id = walk.lane) THEN (
        SELECT jobs.lane FROM jobs WHERE state = {ready} AND jobs.lane >= LEAST(
            (SELECT lanes.id FROM lanes WHERE NOT shut AND lanes.id > walk.lane ORDER BY lanes.id LIMIT 1),
            (SELECT due.id FROM due WHERE due.id > walk.lane ORDER BY due.id LIMIT 1)
        ) ORDER BY jobs.lane LIMIT 1
    ) ELSE (
        SELECT jobs.lane FROM jobs WHERE state = {ready} AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1
    ) END, step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < $2
-- The lanes of the walk, read without locks: which are open, and for how long the others are closed.
), looked AS MATERIALIZED (
    SELECT lanes.id, paused_until - now AS paused_for, {rate_for} AS rate_for, {at_limit} AS at_limit,
        {may_claim} AS open
    FROM walk CROSS JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = walk.lane LIMIT 1) AS lanes CROSS JOIN clock
    WHERE lanes.id <> ALL ($3::uuid[])
-- The open lanes that no other worker has locked, and how many jobs each allows. A locked row is read in its newest
-- version, so this room is exact.
), locked AS MATERIALIZED (
    SELECT lanes.id, LEAST({allowed} - running, {rate_room}) AS room,
        running AS running_before, {allowed} AS allowed
    FROM lanes CROSS JOIN clock
    WHERE lanes.id = ANY (ARRAY(SELECT id FROM looked WHERE open ORDER BY id LIMIT $4)) AND paused_until <= now AND NOT draining
    FOR UPDATE OF lanes SKIP LOCKED
-- How many jobs one lane gets of this claim.
), share AS MATERIALIZED (
    SELECT count(*) AS lanes, ($4 + count(*) - 1) / GREATEST(count(*), 1) AS most FROM locked
-- The first jobs of each lane, without those that another transaction has locked. Must be MATERIALIZED: the planner
-- might run it twice and take more than the limit.
), picked AS MATERIALIZED (
    SELECT mine.place FROM locked CROSS JOIN share CROSS JOIN LATERAL (
        SELECT ready.place, row_number() OVER () AS turn FROM (
            SELECT jobs.ctid AS place FROM jobs WHERE state = {ready} AND jobs.lane = locked.id
            ORDER BY priority, seq
            LIMIT GREATEST(LEAST(locked.room, share.most), 0)
            FOR UPDATE SKIP LOCKED
        ) AS ready
    ) AS mine
    ORDER BY mine.turn LIMIT $4
-- Jobs are taken by their physical place, which needs no index. A job that was changed since the statement began has
-- moved, and is left for the next claim.
), taken AS (
    UPDATE jobs SET state = {running}, lease_token = $5, lease_until = now + $6, claims = claims + 1
    FROM clock WHERE jobs.ctid = ANY (ARRAY(SELECT place FROM picked))
    RETURNING jobs.id, jobs.lane, jobs.subject, jobs.claims, jobs.rescues, jobs.trace, jobs.priority, jobs.seq
-- What was taken, not what was picked, counts against the lane.
), tally AS MATERIALIZED (
    SELECT lane, count(*)::integer AS jobs FROM taken GROUP BY lane
), counted AS (
    UPDATE lanes SET running = running + tally.jobs,
        full_at = CASE WHEN running_before + tally.jobs >= allowed
                            OR rate_interval_us IS NOT NULL AND tally.jobs >= room THEN now ELSE full_at END,
        rate_next_us = {rate_next}
    FROM tally JOIN locked ON locked.id = tally.lane CROSS JOIN share CROSS JOIN clock
    WHERE lanes.id BETWEEN tally.lane AND tally.lane
    RETURNING
        tally.jobs >= share.most AND room > share.most AS cut,
        running_before + tally.jobs >= allowed AS at_limit,
        {rate_for} AS rate_for
-- What the worker needs to know of the lanes, in one row.
), summary AS (
    SELECT
        seen.open AS open_lanes,
        share.lanes AS locked_lanes,
        coalesce(served.cut, false) AS cut,
        coalesce(seen.at_limit, false) OR coalesce(served.at_limit, false) AS blocked,
        walked.lanes < $2 AS reached_end,
        walked.last_lane,
        -- When the next lane opens: of those that were looked at, and of those that the walk stepped over.
        LEAST(seen.paused_for, seen.rate_for, served.rate_for,
              (SELECT paused_until FROM lanes WHERE shut AND paused_until > (SELECT now FROM clock)
               ORDER BY paused_until LIMIT 1) - (SELECT now FROM clock)) AS opens_in
    FROM share CROSS JOIN (
        SELECT count(*) FILTER (WHERE open) AS open, bool_or(at_limit) AS at_limit,
            min(paused_for) FILTER (WHERE paused_for > 0) AS paused_for,
            min(rate_for) FILTER (WHERE rate_for > 0) AS rate_for
        FROM looked
    ) AS seen CROSS JOIN (
        SELECT bool_or(cut) AS cut, bool_or(at_limit) AS at_limit,
            min(rate_for) FILTER (WHERE rate_for > 0) AS rate_for
        FROM counted
    ) AS served CROSS JOIN (
        SELECT count(lane) AS lanes,
            (array_agg(lane ORDER BY step DESC) FILTER (WHERE lane IS NOT NULL))[1] AS last_lane
        FROM walk
    ) AS walked
)
SELECT summary.*, taken.* FROM summary LEFT JOIN taken ON true
