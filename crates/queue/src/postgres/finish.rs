//! Ending claims, and taking back jobs whose leases have expired.
//!
//! Ending locks jobs in the order of their ids. Ending and rescuing lock jobs before lanes, and lanes in the order of
//! their ids, so no two calls deadlock. Rescuing waits for no job, and claiming, which locks lanes first, for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_database::sql::{Template, column, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Guarded, Kind};
use sea_orm::{ConnectionTrait, Value};

use crate::job::{Finish, JobId, LaneId, Lease, Rescue, Rescued};
use crate::tables::{STATES, claimed_job, integer, job_ids, millis};

static EXTEND: Template = Template::new(include_str!("extend.sql"), &[]);
static FINISH: Template = Template::new(include_str!("finish.sql"), &[STATES]);
static RESCUE: Template = Template::new(include_str!("rescue.sql"), &[STATES]);

pub(super) async fn extend(
    database: &Database,
    leases: &[Lease],
    lease: Duration,
) -> Result<Vec<JobId>, DatabaseError> {
    const LEASE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("token", Kind::Uuid)];
    let mut input = Batch::new(LEASE);
    for held in leases {
        input.push([held.job.0.into(), held.token.0.into()]);
    }
    let sql = EXTEND.on(Dialect::Postgres);
    job_ids(&input.query(database.connection(), sql, [millis(lease).into()]).await?)
}

pub(super) async fn finish(
    connection: &impl ConnectionTrait,
    finished: &[(Lease, Finish)],
) -> Result<Vec<JobId>, DatabaseError> {
    const ENDED: &[Column] = &[
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
        input.push([lease.job.0.into(), lease.token.0.into(), remove.into(), delay.into()]);
    }
    job_ids(&input.query(connection, FINISH.on(Dialect::Postgres), []).await?)
}

/// Removes jobs that are done, if all their leases are valid.
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
    // In the order of their ids, and by ranges of one, for which an index look-up per row is the only possible plan. By
    // equality PostgreSQL might join the tables and read all of one.
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

pub(super) async fn rescue(database: &Database, rescue: &Rescue) -> Result<Rescued, DatabaseError> {
    let values: [Value; 4] = [
        i64::from(rescue.max).into(),
        integer(rescue.max_rescues).into(),
        rescue.token.0.into(),
        millis(rescue.lease).into(),
    ];
    let mut rescued = Rescued::default();
    for row in &query_all(database.connection(), RESCUE.on(Dialect::Postgres), values).await? {
        if column(row, "exhausted")? {
            rescued.exhausted.push(claimed_job(row, rescue.token)?);
        } else {
            rescued.returned += 1;
        }
    }
    Ok(rescued)
}
