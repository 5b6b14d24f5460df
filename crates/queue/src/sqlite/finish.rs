//! Ending claims on SQLite, and taking back jobs whose leases have expired.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use postrider_database::sql::{Template, column, execute, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Transaction};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::claim::lanes_of;
use super::lane_list;
use crate::job::{Finish, JobId, LaneId, Lease, Rescue, Rescued};
use crate::tables::{PRIORITIES, WITHHELD, claimed_job, integer, job_ids, leases, millis};

static EXTEND: Template =
    Template::new("UPDATE claims SET lease_until = {now} + $1 WHERE token IN (SELECT token FROM input)", &[]);

/// A claim that was forgotten is over, although a job of it may not have been rescued yet.
static STILL_HELD: &str = "SELECT jobs.id FROM input CROSS JOIN jobs ON jobs.seq = input.seq
     WHERE jobs.id = input.id AND jobs.lease_token = input.token
         AND EXISTS (SELECT 1 FROM claims WHERE claims.token = input.token)";

static HELD: &str = "SELECT jobs.id, jobs.seq, jobs.lane, lanes.ordered, input.place FROM input
     CROSS JOIN jobs ON jobs.seq = input.seq CROSS JOIN lanes ON lanes.id = jobs.lane
     WHERE jobs.id = input.id AND jobs.lease_token = input.token";

static RETURN: Template = Template::new(
    "UPDATE jobs SET lease_token = NULL, available_at = {now} + input.delay FROM input WHERE jobs.seq = input.seq",
    &[],
);

/// A job that was tried gets the priority of a retry, and a new place.
static RETRY: Template = Template::new(
    "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, lane, owner, subject, {retry}, {now}, claims, rescues, trace
     FROM input CROSS JOIN jobs ON jobs.seq = input.seq WHERE input.delay = 0",
    &[PRIORITIES],
);

static SCHEDULE: Template = Template::new(
    "INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, lane, owner, subject, {retry}, {now} + input.delay, claims, rescues, trace
     FROM input CROSS JOIN jobs ON jobs.seq = input.seq WHERE input.delay > 0",
    &[PRIORITIES],
);

static FREE: Template = Template::new(
    "UPDATE lanes SET running = running - input.jobs,
         paused_until = max(paused_until, {until}),
         shut_until = CASE WHEN input.pause = 0 OR {on_hold} THEN shut_until ELSE max(paused_until, {until}) END
     FROM input WHERE lanes.id = input.id",
    &[WITHHELD, &[("until", "CASE WHEN input.pause = 0 THEN 0 ELSE {now} + input.pause END")]],
);

static EXPIRED: Template = Template::new(
    "SELECT token, lanes FROM claims WHERE lease_until < {now} ORDER BY lease_until LIMIT $1",
    &[],
);

/// The leased jobs of a lane: as many as it runs.
static LOST: &str = "SELECT seq FROM (
         SELECT seq, lease_token FROM jobs WHERE lane = $1 AND lease_token IS NOT NULL
         ORDER BY priority, seq LIMIT (SELECT running FROM lanes WHERE id = $1)
     ) WHERE lease_token = $2";

static RESCUE: Template = Template::new(
    "UPDATE jobs SET
         lease_token = CASE WHEN rescues >= $1 THEN $2 END,
         available_at = CASE WHEN rescues >= $1 THEN available_at ELSE {now} END,
         rescues = rescues + CASE WHEN rescues >= $1 THEN 0 ELSE 1 END
     WHERE seq IN (SELECT seq FROM input)
     RETURNING id, lane, priority, seq, owner, subject, claims, rescues, trace, lease_token IS NOT NULL AS exhausted",
    &[],
);

static KEEP: Template =
    Template::new("INSERT INTO claims (token, lease_until, lanes) VALUES ($1, {now} + $2, $3)", &[]);

const SEQ: &[Column] = &[Column::new("seq", Kind::Big)];
const RETURNED: &[Column] = &[Column::new("seq", Kind::Big), Column::new("delay", Kind::Big)];

pub(super) async fn extend(
    database: &Database,
    extended: &[Lease],
    lease: Duration,
) -> Result<Vec<JobId>, DatabaseError> {
    let connection = database.connection();
    leases(extended).execute(connection, EXTEND.on(Dialect::Sqlite), [millis(lease).into()]).await?;
    job_ids(&leases(extended).query(connection, STILL_HELD, []).await?)
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
    let (mut removed, mut returned, mut retried) =
        (Batch::new(SEQ), Batch::new(RETURNED), Batch::new(RETURNED));
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    let mut held = Vec::with_capacity(finished.len());
    for row in &find(transaction, finished).await? {
        let seq: i64 = column(row, "seq")?;
        let ordered: bool = column(row, "ordered")?;
        let place = usize::try_from(column::<i64>(row, "place")?).unwrap_or(usize::MAX);
        let Some((lease, finish)) = finished.get(place) else { continue };
        let lane = freed.entry(column(row, "lane")?).or_default();
        lane.jobs += 1;
        held.push(lease.job);
        match finish {
            Finish::Done | Finish::Bury => removed.push([seq.into()]),
            Finish::Release => returned.push([seq.into(), 0_i64.into()]),
            Finish::RetryIn(delay) if ordered => {
                lane.pause = lane.pause.max(millis(*delay));
                returned.push([seq.into(), millis(*delay).into()]);
            }
            Finish::RetryIn(delay) => {
                retried.push([seq.into(), millis(*delay).into()]);
                removed.push([seq.into()]);
            }
        }
    }
    returned.execute(transaction, RETURN.on(Dialect::Sqlite), []).await?;
    retried.clone().execute(transaction, RETRY.on(Dialect::Sqlite), []).await?;
    retried.execute(transaction, SCHEDULE.on(Dialect::Sqlite), []).await?;
    removed.execute(transaction, "DELETE FROM jobs WHERE seq IN (SELECT seq FROM input)", []).await?;
    free(transaction, freed).await?;
    Ok(held)
}

/// Finds the jobs whose leases are valid.
async fn find(
    transaction: &Transaction,
    finished: &[(Lease, Finish)],
) -> Result<Vec<QueryResult>, DatabaseError> {
    const ENDED: &[Column] = &[
        Column::new("seq", Kind::Big),
        Column::new("id", Kind::Uuid),
        Column::new("token", Kind::Uuid),
        Column::new("place", Kind::Big),
    ];
    let mut input = Batch::new(ENDED);
    for (place, (lease, _)) in (0_i64..).zip(finished) {
        input.push([lease.place.seq.into(), lease.job.0.into(), lease.token.0.into(), place.into()]);
    }
    input.query(transaction, HELD, []).await
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

/// Returns also the lanes whose jobs are ready again.
pub(super) async fn rescue(
    transaction: &Transaction,
    rescue: &Rescue,
) -> Result<(Rescued, Vec<LaneId>), DatabaseError> {
    let (mut rescued, mut lanes) = (Rescued::default(), Vec::new());
    let lost = lost(transaction, rescue.max as usize).await?;
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    let own: [Value; 2] = [integer(rescue.max_rescues).into(), rescue.token.0.into()];
    for row in &lost.query(transaction, RESCUE.on(Dialect::Sqlite), own).await? {
        let job = claimed_job(row, rescue.token)?;
        if column(row, "exhausted")? {
            rescued.exhausted.push(job);
        } else {
            rescued.returned += 1;
            lanes.push(job.lease.lane);
            freed.entry(job.lease.lane.0).or_default().jobs += 1;
        }
    }
    if !rescued.exhausted.is_empty() {
        let lanes: HashSet<LaneId> = rescued.exhausted.iter().map(|job| job.lease.lane).collect();
        let values: [Value; 3] =
            [rescue.token.0.into(), millis(rescue.lease).into(), lane_list(lanes).into()];
        execute(transaction, KEEP.on(Dialect::Sqlite), values).await?;
    }
    free(transaction, freed).await?;
    Ok((rescued, lanes))
}

/// Finds up to `max` jobs of expired claims, and forgets claims without jobs.
async fn lost(transaction: &Transaction, max: usize) -> Result<Batch, DatabaseError> {
    let mut lost = Batch::new(SEQ);
    let most = i64::try_from(max).unwrap_or(i64::MAX);
    for row in &query_all(transaction, EXPIRED.on(Dialect::Sqlite), [most.into()]).await? {
        let token: Uuid = column(row, "token")?;
        let mut jobs = Vec::new();
        for lane in lanes_of(&column::<Vec<u8>>(row, "lanes")?) {
            jobs.append(&mut query_all(transaction, LOST, [lane.into(), token.into()]).await?);
        }
        if jobs.is_empty() {
            execute(transaction, "DELETE FROM claims WHERE token = $1", [token.into()]).await?;
        }
        for job in jobs.iter().take(max.saturating_sub(lost.len())) {
            lost.push([column::<i64>(job, "seq")?.into()]);
        }
        if lost.len() >= max {
            break;
        }
    }
    Ok(lost)
}
