//! Ending claims, and taking back those whose lease has expired.
//!
//! Ending locks jobs in the order of their ids, and both lock jobs before lanes, and lanes in the order of their ids, so
//! that no two of them deadlock; taking back waits for no job, and claiming, which locks lanes first, for nothing at all.

use std::collections::BTreeMap;

use postrider_database::{Batch, Column, Guarded, Kind};
use sea_orm::ConnectionTrait;

use crate::enqueue::millis;
use crate::error::QueueError;
use crate::job::{Finish, JobId, LaneId, Lease};
use crate::row::column;

pub(super) async fn finish(
    connection: &impl ConnectionTrait,
    finished: &[(Lease, Finish)],
) -> Result<Vec<JobId>, QueueError> {
    const ENDED: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("token", Kind::Uuid),
        Column::new("remove", Kind::Bool),
        // None if the job was not tried.
        Column::nullable("delay", Kind::Big),
    ];
    let mut input = Batch::new(ENDED);
    for (lease, finish) in finished {
        let (remove, delay) = match finish {
            Finish::Done | Finish::Bury => (true, None),
            Finish::RetryIn(delay) => (false, Some(millis(*delay))),
            Finish::Release => (false, None),
        };
        input.push([lease.job.0.into(), lease.token.0.into(), remove.into(), delay.into()]);
    }
    let rows = input.query(connection, FINISH, []).await?;
    rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
}

/// Jobs and lanes are looked up one by one, by arrays, or by a range of one, never joined: plans are kept, and one made when the table was
/// all but empty would join with all of it when it no longer is. A token says that its job is running.
///
/// A job of an ordered lane that is to be tried again stays in its place and pauses its lane until
/// then; any other one steps back behind the first tries of its lane.
const FINISH: &str = "
, clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), held AS MATERIALIZED (
    SELECT mine.id, mine.lane, given.remove, given.delay
    FROM (SELECT * FROM input ORDER BY id) AS given CROSS JOIN LATERAL (
        SELECT jobs.id, jobs.lane FROM jobs WHERE jobs.id = given.id AND jobs.lease_token = given.token
        LIMIT 1 FOR UPDATE
    ) AS mine
), locked AS MATERIALIZED (
    SELECT id, ordered FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM held)) ORDER BY id FOR UPDATE
), removed AS (
    DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held WHERE remove))
), again AS MATERIALIZED (
    SELECT held.id, held.delay, locked.ordered FROM held JOIN locked ON locked.id = held.lane WHERE NOT held.remove
), returned AS (
    UPDATE jobs SET (state, priority, available_at, lease_token, lease_until) = (
        SELECT
            CASE WHEN again.delay IS NULL OR again.delay = 0 OR again.ordered THEN 0 ELSE 1 END,
            CASE WHEN again.delay IS NULL OR again.ordered THEN jobs.priority ELSE 1 END,
            clock.now + coalesce(again.delay, 0),
            NULL::uuid, NULL::bigint
        FROM again CROSS JOIN clock WHERE again.id = jobs.id
    )
    WHERE id = ANY (ARRAY(SELECT id FROM again))
), freed AS (
    UPDATE lanes SET running = running - ended.jobs, paused_until = GREATEST(paused_until, ended.until),
        shut = shut OR ended.until > 0
    FROM (
        SELECT held.lane, count(*)::integer AS jobs,
            max(CASE WHEN locked.ordered AND held.delay > 0 THEN now + held.delay ELSE 0 END) AS until
        FROM held JOIN locked ON locked.id = held.lane CROSS JOIN clock GROUP BY held.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
)
SELECT id FROM held";

/// Removes jobs that are done, if the leases of all of them are held.
pub(super) fn done(done: &[(Lease, LaneId)], guarded: &mut Guarded) {
    const DONE: &[Column] =
        &[Column::new("id", Kind::Uuid), Column::new("token", Kind::Uuid), Column::new("lane", Kind::Uuid)];
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Int)];
    let mut jobs = Batch::new(DONE);
    let mut by_lane: BTreeMap<LaneId, i32> = BTreeMap::new();
    for (lease, lane) in done {
        jobs.push([lease.job.0.into(), lease.token.0.into(), lane.0.into()]);
        *by_lane.entry(*lane).or_default() += 1;
    }
    let mut lanes = Batch::new(LANE);
    for (lane, jobs) in by_lane {
        lanes.push([lane.0.into(), jobs.into()]);
    }
    // In the order of their ids, and by ranges of one, which are only ever asked of the index. By what is equal in both
    // tables PostgreSQL might join them, and read all of one.
    guarded.push_exact(
        jobs,
        "DELETE FROM jobs USING (SELECT * FROM input ORDER BY id) AS done \
        WHERE jobs.id BETWEEN done.id AND done.id \
            AND jobs.lease_token IS NOT DISTINCT FROM done.token AND jobs.lane IS NOT DISTINCT FROM done.lane",
    );
    guarded.writes.push(
        lanes,
        "UPDATE lanes SET running = running - ended.jobs FROM (SELECT * FROM input ORDER BY id) AS ended \
        WHERE lanes.id BETWEEN ended.id AND ended.id",
    );
}

/// `$1` how many, `$2` after how many rescues a job is exhausted, `$3` the token and `$4` the lease
/// for those. In the order of the index: asked for in the order of ids, PostgreSQL read all jobs by their ids.
pub(super) const RESCUE: &str = "
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), expired AS MATERIALIZED (
    SELECT id, lane, rescues >= $2 AS exhausted FROM jobs
    WHERE state = 3 AND lease_until < (SELECT now FROM clock) ORDER BY lease_until LIMIT $1 FOR UPDATE SKIP LOCKED
), locked AS MATERIALIZED (
    SELECT id FROM lanes WHERE id = ANY (ARRAY(SELECT lane FROM expired WHERE NOT exhausted)) ORDER BY id FOR UPDATE
), rescued AS (
    UPDATE jobs SET
        state = CASE WHEN exhausted THEN 3 ELSE 0 END,
        rescues = rescues + CASE WHEN exhausted THEN 0 ELSE 1 END,
        available_at = CASE WHEN exhausted THEN available_at ELSE now END,
        lease_token = CASE WHEN exhausted THEN $3::uuid END,
        lease_until = CASE WHEN exhausted THEN now + $4 END
    FROM expired, clock WHERE jobs.id BETWEEN expired.id AND expired.id
    RETURNING jobs.id, jobs.lane, jobs.subject, jobs.claims, jobs.rescues, jobs.trace, expired.exhausted
), freed AS (
    UPDATE lanes SET running = running - ended.jobs
    FROM (
        SELECT expired.lane, count(*)::integer AS jobs
        FROM expired JOIN locked ON locked.id = expired.lane WHERE NOT exhausted GROUP BY expired.lane
    ) AS ended WHERE lanes.id BETWEEN ended.lane AND ended.lane
)
SELECT * FROM rescued";
