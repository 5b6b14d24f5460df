-- The next lanes of a walk with their limits, and since when the jobs that a claim would take first are ready.
--
-- $1 the lane after which to start, $2 how many lanes; $3 the owner, or the greatest id in a walk over the lanes of all.

WITH RECURSIVE {source}
SELECT lanes.id, lanes.owner, lanes.concurrency, lanes.ordered, lanes.rate_interval_us, lanes.rate_burst, lanes.head,
    lanes.running, lanes.probing, lanes.held, lanes.owner_held, lanes.draining,
    lanes.paused_until - {now} AS paused_for,
    {now} - {first_new} AS new_for, {now} - {first_again} AS again_for
FROM seen {with_lanes}
