//! Ending claims on SQLite, and taking back jobs whose leases have expired.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_database::sql::{Template, column, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Transaction};
use sea_orm::Value;
use uuid::Uuid;

use crate::job::{Finish, JobId, Lease, Rescue, Rescued};
use crate::tables::{
    STATES, claimed_job, integer, job_ids, millis,
    priority::{FIRST_TRY, RETRY},
    state,
};

static EXTEND: Template = Template::new(
    "UPDATE jobs SET lease_until = {now} + $1
     FROM input WHERE jobs.id = input.id AND jobs.lease_token = input.token AND jobs.state = {running}
     RETURNING jobs.id",
    &[STATES],
);

static HELD: Template = Template::new(
    "SELECT jobs.id, jobs.lane, lanes.ordered, input.place FROM input
     JOIN jobs ON jobs.id = input.id AND jobs.lease_token = input.token
     JOIN lanes ON lanes.id = jobs.lane WHERE jobs.state = {running}",
    &[STATES],
);

/// A job that was tried gets the priority of a retry.
static RETURN: Template = Template::new(
    "UPDATE jobs SET state = input.state, priority = max(jobs.priority, input.priority), lease_token = NULL,
         lease_until = NULL, available_at = {now} + input.delay
     FROM input WHERE jobs.id = input.id",
    &[],
);

static FREE: Template = Template::new(
    "UPDATE lanes SET running = running - input.jobs,
         paused_until = CASE WHEN input.pause = 0 THEN paused_until
             ELSE max(paused_until, {now} + input.pause) END
     FROM input WHERE lanes.id = input.id",
    &[],
);

static RESCUE: Template = Template::new(
    "UPDATE jobs SET
         state = CASE WHEN rescues >= $2 THEN {running} ELSE {ready} END,
         lease_token = CASE WHEN rescues >= $2 THEN $3 END,
         lease_until = CASE WHEN rescues >= $2 THEN {now} + $4 END,
         available_at = CASE WHEN rescues >= $2 THEN available_at ELSE {now} END,
         rescues = rescues + CASE WHEN rescues >= $2 THEN 0 ELSE 1 END
     WHERE seq IN (
         SELECT seq FROM jobs WHERE state = {running} AND lease_until < {now} ORDER BY lease_until LIMIT $1
     )
     RETURNING id, lane, subject, claims, rescues, trace, state = {running} AS exhausted",
    &[STATES],
);

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
    let sql = EXTEND.on(Dialect::Sqlite);
    job_ids(&input.query(database.connection(), sql, [millis(lease).into()]).await?)
}

/// How many jobs of a lane ended, and for how many milliseconds the lane pauses.
#[derive(Default)]
struct Freed {
    jobs: i64,
    pause: i64,
}

/// Does the same as `postgres/finish.sql`, in steps.
pub(super) async fn finish(
    transaction: &Transaction,
    finished: &[(Lease, Finish)],
) -> Result<Vec<JobId>, DatabaseError> {
    const ENDED: &[Column] =
        &[Column::new("id", Kind::Uuid), Column::new("token", Kind::Uuid), Column::new("place", Kind::Big)];
    const REMOVED: &[Column] = &[Column::new("id", Kind::Uuid)];
    const RETURNED: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("state", Kind::Small),
        Column::new("priority", Kind::Small),
        Column::new("delay", Kind::Big),
    ];
    let mut input = Batch::new(ENDED);
    for (place, (lease, _)) in (0_i64..).zip(finished) {
        input.push([lease.job.0.into(), lease.token.0.into(), place.into()]);
    }
    let rows = input.query(transaction, HELD.on(Dialect::Sqlite), []).await?;

    let (mut removed, mut returned) = (Batch::new(REMOVED), Batch::new(RETURNED));
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    let mut held = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: Uuid = column(row, "id")?;
        let ordered: bool = column(row, "ordered")?;
        let place = usize::try_from(column::<i64>(row, "place")?).unwrap_or(usize::MAX);
        let Some((_, finish)) = finished.get(place) else { continue };
        let lane = freed.entry(column(row, "lane")?).or_default();
        lane.jobs += 1;
        held.push(JobId(id));
        match finish {
            Finish::Done | Finish::Bury => removed.push([id.into()]),
            Finish::Release => {
                returned.push([id.into(), state::READY.into(), FIRST_TRY.into(), 0_i64.into()]);
            }
            Finish::RetryIn(delay) => {
                let delay = millis(*delay);
                let state = if delay > 0 && !ordered { state::SCHEDULED } else { state::READY };
                let priority = if ordered { FIRST_TRY } else { RETRY };
                if ordered {
                    lane.pause = lane.pause.max(delay);
                }
                returned.push([id.into(), state.into(), priority.into(), delay.into()]);
            }
        }
    }
    removed.execute(transaction, "DELETE FROM jobs WHERE id IN (SELECT id FROM input)", []).await?;
    returned.execute(transaction, RETURN.on(Dialect::Sqlite), []).await?;
    free(transaction, freed).await?;
    Ok(held)
}

async fn free(transaction: &Transaction, freed: BTreeMap<Uuid, Freed>) -> Result<(), DatabaseError> {
    const FREED: &[Column] =
        &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Big), Column::new("pause", Kind::Big)];
    let mut input = Batch::new(FREED);
    for (lane, Freed { jobs, pause }) in freed {
        input.push([lane.into(), jobs.into(), pause.into()]);
    }
    input.execute(transaction, FREE.on(Dialect::Sqlite), []).await?;
    Ok(())
}

pub(super) async fn rescue(transaction: &Transaction, rescue: &Rescue) -> Result<Rescued, DatabaseError> {
    let values: [Value; 4] = [
        i64::from(rescue.max).into(),
        integer(rescue.max_rescues).into(),
        rescue.token.0.into(),
        millis(rescue.lease).into(),
    ];
    let mut rescued = Rescued::default();
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    for row in &query_all(transaction, RESCUE.on(Dialect::Sqlite), values).await? {
        if column(row, "exhausted")? {
            rescued.exhausted.push(claimed_job(row, rescue.token)?);
        } else {
            rescued.returned += 1;
            freed.entry(column(row, "lane")?).or_default().jobs += 1;
        }
    }
    free(transaction, freed).await?;
    Ok(rescued)
}
