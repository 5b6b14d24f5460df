-- Claims ready jobs of the given lanes, a fair share of each.
--
-- $1 the lanes in turn, $2 how many jobs, $3 the leases' token, $4 their duration in milliseconds, $5 the concurrency of
-- lanes that have none of their own, $6 the tokens of claims that have ended, $7 for how long in milliseconds the jobs of
-- each lane must have waited, and nobody have served it: zero, or more if another worker serves it, $8 the worker, $9 how
-- many jobs of each lane it claims ahead, $10 owners to skip.
--
-- Tables are looked up row by row, by an array, or by a range of one; they are never joined. PostgreSQL keeps the plan,
-- and a plan made while a table was nearly empty would join with all of it once it has grown.

-- The moment of the statement in Unix milliseconds, the oldest transaction that may still write, and the next one.
WITH clock AS MATERIALIZED (
    SELECT {now} AS now, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_xid,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS following_xid
), forgotten AS (
    DELETE FROM claims WHERE token = ANY ($6::uuid[])
-- The lanes, read without locks: which are open and have ready jobs, and for how long the others are closed.
), looked AS MATERIALIZED (
    SELECT given.turn, given.ahead, lanes.id, lanes.owner, lanes.row_version, {may_run} AS may_run,
        GREATEST(paused_until - now, {rate_for}) AS closed_for, {at_limit} AS at_limit,
        NOT {withheld} AND {is_ready} AS ready, {may_claim} AND lanes.owner <> ALL ($10::text[]) AS open
    FROM unnest($1::uuid[], $7::bigint[], $9::integer[]) WITH ORDINALITY AS given(lane, least_wait, ahead, turn)
        CROSS JOIN LATERAL (SELECT ctid AS row_version, * FROM lanes WHERE lanes.id = given.lane LIMIT 1) AS lanes
        CROSS JOIN clock
-- In turn, those that no other worker has locked, and how many jobs each allows. A locked row is read in its newest
-- version, so this room is exact.
), locked AS MATERIALIZED (
    SELECT given.turn, given.owner, mine.* FROM clock
    CROSS JOIN (SELECT turn, id, owner, row_version, ahead FROM looked WHERE open AND ready ORDER BY turn) AS given
    CROSS JOIN LATERAL (
        SELECT lanes.id, LEAST({allowed} - running, {rate_room}) AS room,
            running AS running_before, {allowed} AS allowed,
            head, CASE WHEN {head_settled} THEN next_head END AS settled_head,
            lanes.ctid = given.row_version AS unchanged,
            crowded AND lanes.ctid = given.row_version AND ({head_settled} OR next_head <= head) AS sights_head
        FROM lanes WHERE lanes.id = given.id AND paused_until <= now AND NOT {withheld} LIMIT 1 FOR UPDATE SKIP LOCKED
    ) AS mine
    LIMIT $2
), owners AS MATERIALIZED (
    SELECT count(DISTINCT owner) AS owners FROM locked
-- How many jobs a lane gets of this claim: an equal part of what its owner gets, which is an equal part of the whole. And its
-- place among the lanes of its owner.
), sharing AS MATERIALIZED (
    SELECT locked.*, ((($2 + owners - 1) / owners) + siblings - 1) / siblings AS share FROM (
        SELECT locked.*, count(*) OVER (PARTITION BY owner) AS siblings,
            row_number() OVER (PARTITION BY owner ORDER BY turn) AS place_of_lane
        FROM locked
    ) AS locked CROSS JOIN owners
-- The first jobs of each lane. If nobody has changed the lane since the statement began, its lock keeps all others away
-- from its ready jobs. Otherwise some may have been claimed, and are locked by their end: they must not be waited for.
-- Must be MATERIALIZED: the planner might run it twice and take more than the limit.
), picked AS MATERIALIZED (
    SELECT locked.id, mine.place FROM sharing AS locked CROSS JOIN LATERAL (
        SELECT first.place, row_number() OVER () AS turn FROM (
            SELECT * FROM (
                SELECT jobs.ctid AS place FROM jobs
                WHERE locked.unchanged AND jobs.lane = locked.id AND priority = {first_try} AND seq >= locked.head AND lease_token IS NULL
                ORDER BY seq LIMIT GREATEST(LEAST(locked.room, locked.share), 0)
            ) AS first_tries
            UNION ALL
            SELECT * FROM (
                SELECT jobs.ctid AS place FROM jobs
                WHERE locked.unchanged AND jobs.lane = locked.id AND priority = {retry} AND lease_token IS NULL
                ORDER BY seq LIMIT GREATEST(LEAST(locked.room, locked.share), 0)
            ) AS retries
            UNION ALL
            SELECT * FROM (
                SELECT jobs.ctid AS place FROM jobs
                WHERE NOT locked.unchanged AND jobs.lane = locked.id AND priority = {first_try} AND seq >= locked.head AND lease_token IS NULL
                ORDER BY seq LIMIT GREATEST(LEAST(locked.room, locked.share), 0) FOR UPDATE SKIP LOCKED
            ) AS first_tries
            UNION ALL
            SELECT * FROM (
                SELECT jobs.ctid AS place FROM jobs
                WHERE NOT locked.unchanged AND jobs.lane = locked.id AND priority = {retry} AND lease_token IS NULL
                ORDER BY seq LIMIT GREATEST(LEAST(locked.room, locked.share), 0) FOR UPDATE SKIP LOCKED
            ) AS retries
            LIMIT GREATEST(LEAST(locked.room, locked.share), 0)
        ) AS first
    ) AS mine
    -- The first job of each lane of an owner, then the second of each: so this is the turn of a job among its owner's.
    ORDER BY (mine.turn - 1) * locked.siblings + locked.place_of_lane LIMIT $2
-- Jobs are taken by their physical place, which needs no index. A job that was changed since the statement began is left
-- for the next claim.
), taken AS (
    UPDATE jobs SET lease_token = $3, claims = claims + 1
    WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) AND lease_token IS NULL
    RETURNING jobs.id, jobs.lane, jobs.priority, jobs.seq, jobs.owner, jobs.subject, jobs.claims, jobs.rescues, jobs.trace
-- What is known of each locked lane, together: joined one by one, a claim of many lanes would read all of them for each.
), tally AS MATERIALIZED (
    SELECT lane, count(picked) AS picked, count(seq)::integer AS jobs, max(seq) AS last,
        max(seq) FILTER (WHERE priority = {first_try}) + 1 AS sighted, max(room) AS room, max(share) AS share,
        max(running_before) AS running_before, max(allowed) AS allowed, max(head) AS head_before,
        max(settled_head) AS settled_head, bool_or(sights_head) AS sights_head
    FROM (
        SELECT id AS lane, NULL::tid AS picked, NULL::bigint AS seq, NULL::smallint AS priority, room, share, running_before, allowed,
            head, settled_head, sights_head
        FROM sharing
        UNION ALL
        SELECT id, place, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM picked
        UNION ALL
        SELECT lane, NULL, seq, priority, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM taken
    ) AS known GROUP BY lane
-- What was taken, not what was picked, counts against the lane.
), counted AS (
    UPDATE lanes SET running = running + tally.jobs,
        full_at = CASE WHEN running_before + tally.jobs >= allowed
                            OR rate_interval_us IS NOT NULL AND tally.jobs >= room THEN now ELSE full_at END,
        rate_next_us = {rate_next},
        shut_until = CASE WHEN {rate_for_then} > {worth_shutting} THEN now + {rate_for_then} END,
        holder = {holder_then}, served_at = now, last_seq = GREATEST(last_seq, tally.last),
        passed = CASE WHEN crowded OR ordered THEN 0 ELSE passed + tally.jobs END,
        crowded = crowded OR NOT ordered AND passed + tally.jobs >= {crowd},
        -- This claim took the first jobs of the lane. Those that it did not see were inserted by transactions that had not
        -- ended; see `heads.rs`.
        -- The first claim that does see them still began at the old head.
        head = CASE WHEN settled_head IS NOT NULL AND sighted IS NOT NULL THEN LEAST(settled_head, sighted) ELSE head_before END,
        next_head = CASE WHEN sights_head THEN coalesce(sighted, next_head) ELSE next_head END,
        next_xid = CASE WHEN sights_head AND sighted IS NOT NULL THEN following_xid ELSE next_xid END,
        next_head_at = CASE WHEN sights_head AND sighted IS NOT NULL THEN now ELSE next_head_at END
    FROM (SELECT * FROM tally WHERE jobs > 0) AS tally CROSS JOIN clock
    WHERE lanes.id BETWEEN tally.lane AND tally.lane
    RETURNING lanes.id, {rate_for} AS rate_for
), kept AS (
    INSERT INTO claims (token, lease_until, lanes)
    SELECT $3, (SELECT now FROM clock) + $4, array_agg(lane) FROM tally WHERE jobs > 0 HAVING count(*) > 0
)
-- The lanes, and after them the jobs, with what the caller reads about each. All jobs of a lane share what is read about it.
SELECT looked.id AS lane, looked.ready, looked.closed_for, looked.at_limit, looked.may_run, tally.room, tally.share,
    tally.running_before, tally.allowed, (SELECT count(*) FROM locked) AS locked_lanes, (SELECT count(*) FROM picked) AS all_picked,
    coalesce(tally.picked, 0) AS picked, coalesce(tally.jobs, 0) AS taken, counted.rate_for,
    NULL::uuid AS id, NULL::smallint AS priority, NULL::bigint AS seq, looked.owner, NULL::uuid AS subject,
    NULL::integer AS claims, NULL::integer AS rescues, NULL::text AS trace/* no job columns *//* lane columns */
FROM looked LEFT JOIN tally ON tally.lane = looked.id LEFT JOIN counted ON counted.id = looked.id/* lane joins */
UNION ALL
SELECT taken.lane, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    taken.id, taken.priority, taken.seq, taken.owner, taken.subject, taken.claims, taken.rescues, taken.trace/* job columns *//* no lane columns */
FROM taken/* job joins */
