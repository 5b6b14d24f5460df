//! Ending claims, and taking back jobs whose leases have expired.
//!
//! Ending locks jobs in the order of their places. Ending and rescuing lock jobs before lanes, and lanes in the order of
//! their ids, so no two calls deadlock. Rescuing waits for no job, and claiming, which locks lanes, for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_database::sql::{Template, column, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Guarded, Kind};
use sea_orm::{ConnectionTrait, Value};

use crate::job::{Finish, JobId, LaneId, Lease, Rescue, Rescued};
use crate::tables::{PRIORITIES, WITHHELD, claimed_job, integer, job_ids, lease_row, leases, millis};

static EXTEND: Template = Template::new(include_str!("extend.sql"), &[]);
static FINISH: Template = Template::new(include_str!("finish.sql"), &[PRIORITIES, WITHHELD]);
static RESCUE: Template = Template::new(include_str!("rescue.sql"), &[PRIORITIES]);

pub(super) async fn extend(
    database: &Database,
    extended: &[Lease],
    lease: Duration,
) -> Result<Vec<JobId>, DatabaseError> {
    let sql = EXTEND.on(Dialect::Postgres);
    job_ids(&leases(extended).query(database.connection(), sql, [millis(lease).into()]).await?)
}

pub(super) async fn finish(
    connection: &impl ConnectionTrait,
    finished: &[(Lease, Finish)],
) -> Result<Vec<JobId>, DatabaseError> {
    const ENDED: &[Column] = &[
        Column::new("lane", Kind::Uuid),
        Column::new("priority", Kind::Small),
        Column::new("seq", Kind::Big),
        Column::new("id", Kind::Uuid),
        Column::new("token", Kind::Uuid),
        Column::new("remove", Kind::Bool),
        // NULL if the job was not tried.
        Column::nullable("delay", Kind::Big),
    ];
    let mut input = Batch::new(ENDED);
    for (lease, finish) in finished {
        let (remove, delay) = match finish {
            Finish::Done | Finish::Bury => (true, None),
            Finish::RetryIn(delay) => (false, Some(millis(*delay))),
            Finish::Release => (false, None),
        };
        let [lane, priority, seq, id, token] = lease_row(lease);
        input.push([lane, priority, seq, id, token, remove.into(), delay.into()]);
    }
    job_ids(&input.query(connection, FINISH.on(Dialect::Postgres), []).await?)
}

/// Removes jobs that are done, if all their leases are valid.
pub(super) fn done(done: &[Lease], guarded: &mut Guarded) {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Int)];
    let mut by_lane: BTreeMap<LaneId, i32> = BTreeMap::new();
    for lease in done {
        *by_lane.entry(lease.lane).or_default() += 1;
    }
    let mut lanes = Batch::new(LANE);
    for (lane, jobs) in by_lane {
        lanes.push([lane.0.into(), jobs.into()]);
    }
    // Locked in the order of their places, each looked up by itself. Joined, PostgreSQL might look for the lane only, and read
    // all its jobs for each: it did with plans made while the table was empty.
    guarded.push_exact(
        leases(done),
        "DELETE FROM jobs WHERE ctid = ANY (ARRAY( \
            SELECT mine.place FROM (SELECT * FROM input ORDER BY lane, priority, seq) AS done CROSS JOIN LATERAL ( \
                SELECT jobs.ctid AS place FROM jobs \
                WHERE jobs.lane = done.lane AND jobs.priority = done.priority AND jobs.seq = done.seq \
                    AND jobs.id = done.id AND jobs.lease_token = done.token LIMIT 1 FOR UPDATE \
            ) AS mine \
        ))",
    );
    guarded.writes.push(
        lanes,
        "UPDATE lanes SET running = running - ended.jobs FROM (SELECT * FROM input ORDER BY id) AS ended \
        WHERE lanes.id BETWEEN ended.id AND ended.id",
    );
}

/// Returns also the lanes whose jobs are ready again.
pub(super) async fn rescue(
    database: &Database,
    rescue: &Rescue,
) -> Result<(Rescued, Vec<LaneId>), DatabaseError> {
    let values: [Value; 4] = [
        i64::from(rescue.max).into(),
        integer(rescue.max_rescues).into(),
        rescue.token.0.into(),
        millis(rescue.lease).into(),
    ];
    let (mut rescued, mut lanes) = (Rescued::default(), Vec::new());
    for row in &query_all(database.connection(), RESCUE.on(Dialect::Postgres), values).await? {
        let job = claimed_job(row, rescue.token)?;
        if column(row, "exhausted")? {
            rescued.exhausted.push(job);
        } else {
            rescued.returned += 1;
            lanes.push(job.lease.lane);
        }
    }
    Ok((rescued, lanes))
}
